"""Settings: environment, ``[tool.leakagent]`` of a TOML file and the command line, parsed once.

The command line sets environment variables (so that children inherit them), hence the environment wins over the file.
A wrong value never stops a program: it gives one line that names the variable, the value and what is allowed, and the
default is used.  Only ``python -m leakagent`` stops, before the program starts.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

LEVELS = ("off", "count", "site", "stack")
OTEL_MODES = ("auto", "global", "off")
CHILD_POLICIES = ("end", "keep")
SUBPROCESS_POLICIES = (*CHILD_POLICIES, "guard")
ROOT_VARIABLE = "_LEAKAGENT_ROOT"

_TRUE = ("1", "true", "on", "yes")
_FALSE = ("", "0", "false", "off", "no")

#: Longest text of the user's that a line repeats, in characters.
_LONGEST = 300


class Settings:
    """What the user asked for; never changed after it is built.

    Attributes:
        enabled: Whether the agent is wanted in this process.
        baseline: File with the leaks that are accepted (``leakagent baseline``), or an empty text.
        level: ``off``, ``count``, ``site`` or ``stack``.
        report: The value of ``LEAKAGENT_REPORT`` as given; `leakagent.report.spec` reads it.
        fail_on_leak: End with status 23 if there are findings and the program itself ended with 0.
        budget: Seconds that the whole shutdown may take.
        grace: Seconds that loops and executors each get.
        orphans: What a child of `multiprocessing` does when its starter is gone: ``end``, or ``keep`` running.
        subprocesses: What is done about children of `subprocess` that outlive the program: ``keep`` them as Python does, ``end``, or
            ``guard``: end them also when the program is killed.
        stalled_after: Seconds without progress before a task or worker is looked at.
        ignore: Fingerprints, kinds, functions or ``file:line`` patterns that are not reported.
        otel: ``auto``, ``global`` or ``off``.
        otel_wait: Seconds that the end of the program waits for telemetry to be delivered.
        otel_memory: Whether the memory of the process is sent as well.
        live: Whether the per-user socket is wanted.
        config: The TOML file that was read, or an empty text.

    """

    __slots__ = (
        "baseline",
        "budget",
        "config",
        "enabled",
        "fail_on_leak",
        "grace",
        "ignore",
        "level",
        "live",
        "orphans",
        "otel",
        "otel_memory",
        "otel_wait",
        "report",
        "stalled_after",
        "subprocesses",
    )

    enabled: bool
    baseline: str
    level: str
    report: str
    fail_on_leak: bool
    budget: float
    grace: float
    orphans: str
    subprocesses: str
    stalled_after: float
    ignore: tuple[str, ...]
    otel: str
    otel_wait: float
    otel_memory: bool
    live: bool
    config: str

    def __init__(self, **values: Any) -> None:  # noqa: ANN401 - checked by `load`
        """Take the values as they are; `load` has checked them."""
        for name in self.__slots__:
            object.__setattr__(self, name, values[name])

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse changes."""
        message = f"Settings are frozen, {name} can't be set"
        raise AttributeError(message)

    def __repr__(self) -> str:
        """Show every value."""
        return "Settings(" + ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__) + ")"


def _switch(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:  # noqa: PLR2004 - NaN and infinity fail this too
        raise ValueError
    return value


def _choice(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.strip().lower() in allowed:
            return text.strip().lower()
        raise ValueError

    return parse


def _patterns(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _report(text: str) -> str:
    from .report.spec import parse_spec

    parse_spec(text)
    return text


_SWITCH_TEXT = "1, true, on, yes or 0, false, off, no"
_SECONDS_TEXT = "a number of seconds above 0"

#: Name -> (parser, default, what is allowed).  The environment variable is ``LEAKAGENT_`` and the name in capitals.
OPTIONS: dict[str, tuple[Callable[[str], Any], Any, str]] = {
    "level": (_choice(LEVELS), "site", ", ".join(LEVELS)),
    "report": (_report, "text", "a comma list of text, json:PATH, html:PATH, markdown:PATH, github, or off"),
    "fail_on_leak": (_switch, False, _SWITCH_TEXT),
    "baseline": (str, "", "a file that `leakagent baseline REPORT` has written"),
    "budget": (_seconds, 10.0, _SECONDS_TEXT),
    "grace": (_seconds, 3.0, _SECONDS_TEXT),
    "orphans": (_choice(CHILD_POLICIES), "end", ", ".join(CHILD_POLICIES)),
    "subprocesses": (_choice(SUBPROCESS_POLICIES), "keep", ", ".join(SUBPROCESS_POLICIES)),
    "stalled_after": (_seconds, 60.0, _SECONDS_TEXT),
    "ignore": (_patterns, (), "a comma list of fingerprints, kinds, functions or file:line patterns"),
    "otel": (_choice(OTEL_MODES), "auto", ", ".join(OTEL_MODES)),
    "otel_wait": (_seconds, 1.0, _SECONDS_TEXT),
    "otel_memory": (_switch, False, _SWITCH_TEXT),
    "live": (_switch, True, _SWITCH_TEXT),
}


def variable(name: str) -> str:
    """Return the environment variable of an option."""
    return "LEAKAGENT_" + name.upper()


def load(environ: Mapping[str, str] | None = None) -> tuple[Settings, list[str]]:
    """Read the settings.

    Args:
        environ: The environment to read, by default the process's own.

    Returns:
        The settings, and one line for every value that was wrong (the default is used in its place).

    """
    env = os.environ if environ is None else environ
    errors: list[str] = []
    values: dict[str, Any] = {"enabled": False}
    try:
        values["enabled"] = _switch(env.get("LEAKAGENT", ""))
    except ValueError:
        errors.append(f"LEAKAGENT={_quoted(env['LEAKAGENT'])} is not valid (allowed: {_SWITCH_TEXT}); the agent stays off")
    table, path = _file_values(env, errors) if values["enabled"] or errors else ({}, "")
    values["config"] = path
    for name, (parse, default, allowed) in OPTIONS.items():
        source = variable(name)
        text = env.get(source)
        if text is None and name in table:
            source, text = f"{_line(path)}: tool.leakagent.{name}", table[name]
        if text is None or (not text.strip() and name != "ignore"):
            values[name] = default
            continue
        try:
            values[name] = parse(text)
        except ValueError as error:
            detail = f": {str(error).partition(';')[0]}" if name == "report" else ""
            errors.append(f"{source}={_quoted(text)} is not valid (allowed: {allowed}){_line(detail)}; using {_shown(default)}")
            values[name] = default
    return Settings(**values), errors


def _line(text: object) -> str:
    """Return a text as one line of moderate length."""
    words = str(text)
    return _bounded(words if words.isprintable() else repr(words))


def _quoted(text: str) -> str:
    return _bounded(repr(text))


def _bounded(words: str) -> str:
    return words if len(words) <= _LONGEST else words[: _LONGEST - 3] + "..."


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "1" if default else "0"
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) if default else "none"


def _file_values(env: Mapping[str, str], errors: list[str]) -> tuple[dict[str, str], str]:
    asked = env.get("LEAKAGENT_CONFIG", "")
    path = asked or "pyproject.toml"
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, ValueError) as error:
        if asked:
            reason = getattr(error, "strerror", None) or str(error)
            errors.append(f"LEAKAGENT_CONFIG={_quoted(asked)} can't be read ({reason}); using the defaults")
        return {}, ""
    if "tool.leakagent" not in text:
        return {}, ""
    try:
        table = _toml_table(text)
    except (ValueError, RecursionError) as error:
        errors.append(f"{_line(path)} can't be read as TOML ({_line(error)}); using the defaults")
        return {}, ""
    found: dict[str, str] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in OPTIONS:
            errors.append(f"{_line(path)}: tool.leakagent.{_line(key)} is not an option (allowed: {', '.join(OPTIONS)}); ignored")
        elif isinstance(value, list):
            found[name] = ",".join(str(item) for item in value)
        elif isinstance(value, bool):
            found[name] = "true" if value else "false"
        else:
            found[name] = str(value)
    return found, path


def _toml_table(text: str) -> dict[str, Any]:
    if sys.version_info < (3, 11):
        from ._toml310 import table

        return table(text, "tool.leakagent")
    import tomllib  # 10 ms, only for those who have the table

    tools = tomllib.loads(text).get("tool")
    found = tools.get("leakagent") if isinstance(tools, dict) else None
    return found if isinstance(found, dict) else {}


def root_marker() -> str:
    """Return the text by which children recognise the process that the user started: its pid and start time."""
    return f"{os.getpid()}:{start_time(os.getpid())}"


def is_child(environ: Mapping[str, str]) -> bool:
    """Say whether a living process above this one already carries the agent (so that this one does not print)."""
    return bool(root_of(environ)) and root_of(environ) != os.getpid()


def root_of(environ: Mapping[str, str]) -> int:
    """Return the pid of the living root process, or 0 if there is none."""
    pid, _, started = environ.get(ROOT_VARIABLE, "").partition(":")
    if not (started and pid.isascii() and pid.isdigit() and len(pid) < 20):  # noqa: PLR2004 - no pid is longer
        return 0
    return int(pid) if start_time(int(pid)) == started else 0


def start_time(pid: int) -> str:
    """Return the kernel's start time of a process, which tells a reused pid from the real one; empty if there is none.

    Linux: field 22 of ``/proc/PID/stat``, in clock ticks since boot (proc(5)); a zombie has ended.  Elsewhere the pid alone has
    to do: ``-`` while the process exists.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
            return "" if fields[0] in {b"Z", b"X"} else fields[19].decode()
    except FileNotFoundError:
        return _exists(pid)
    except (OSError, IndexError):
        return ""


def _exists(pid: int) -> str:
    if os.path.isdir("/proc/self") or not hasattr(os, "kill") or os.name == "nt":
        return "-" if os.name == "nt" else ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        return "-"
    return "-"
