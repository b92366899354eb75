"""``leakagent doctor``: does the hook run, which patches are in force, which versions, which exporters.

The hook and the patches are tried in an interpreter of their own, started as any program would be started with ``LEAKAGENT=1``,
because what counts is what happens there and not what is installed here.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys

from leakagent import __version__, config
from leakagent.shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_REQUIRED = ("wrapt", "psutil", "opentelemetry-api", "opentelemetry-sdk")
_WATCHED = (
    *("uvloop", "chromadb", "lancedb", "llama-index-core", "streamlit", "uvicorn"),
    *("httpx", "aiohttp", "requests", "SQLAlchemy", "redis", "qdrant-client", "grpcio"),
)
_EXPORTERS = {
    "otlp over http": "opentelemetry.exporter.otlp.proto.http",
    "otlp over grpc": "opentelemetry.exporter.otlp.proto.grpc",
    "prometheus": "opentelemetry.exporter.prometheus",
}
_SECONDS = 60

_PROBE = """\
import json, sys
early = sorted(name for name in ("asyncio", "wrapt", "psutil", "opentelemetry", "threading") if name in sys.modules)
active = "leakagent.agent" in sys.modules and sys.modules["leakagent.agent"].is_active()
agent = sys.modules["leakagent.agent"].current() if active else None
import asyncio, concurrent.futures.process, concurrent.futures.thread, multiprocessing.pool, threading
print(json.dumps({"active": active, "early": early, "owner": agent.owner if agent else "",
    "patches": agent.patches.names() if agent else [], "plugins": agent.plugins.examine() if agent else [], "disabled": dict(sys.modules["leakagent.guard"].disabled) if agent else {}}))
"""


def main(words: list[str]) -> None:
    """Print what was found; status 0 if the hook runs and every patch is in force, else 1 (2 for wrong usage)."""
    unknown = [word for word in words if word != "--json"]
    if unknown:
        sys.stderr.write(f"leakagent: doctor has no option {unknown[0]} (allowed: --json)\n")
        raise SystemExit(2)
    found = examine()
    if "--json" in words:
        print(json.dumps(found, indent=2))  # noqa: T201 - the command's output
    else:
        print("\n".join(_lines(found)))  # noqa: T201
    raise SystemExit(0 if found["ok"] else 1)


def examine() -> dict[str, Any]:
    """Return everything that ``doctor`` shows."""
    settings, errors = config.load({**os.environ, "LEAKAGENT": "1"})
    probe = _probe()
    private = interpreter.private_names()
    return {
        "ok": bool(probe["active"])
        and not (probe["disabled"] or errors or any(one["problem"] for one in probe["plugins"]))
        and all(private.values()),
        "leakagent": __version__,
        "python": sys.version.split()[0],
        "executable": sys.executable,
        "hook": {key: probe[key] for key in ("active", "owner", "early", "problem")},
        "hook_files": _hook_files(),
        "patches": probe["patches"],
        "plugins": probe["plugins"],
        "disabled": probe["disabled"],
        "private_names": private,
        "settings": {name: getattr(settings, name) for name in settings.__slots__ if name != "enabled"},
        "setting_errors": errors,
        "versions": {name: _version(name) for name in (*_REQUIRED, *_WATCHED)},
        "exporters": {name: _importable(module) for name, module in _EXPORTERS.items()},
        "otel_variables": {key: value for key, value in sorted(os.environ.items()) if key.startswith("OTEL_")},
    }


def _probe() -> dict[str, Any]:
    """Ask an interpreter that was started with ``LEAKAGENT=1``."""
    nothing: dict[str, Any] = {"active": False, "owner": "", "early": [], "disabled": {}, "problem": ""}
    nothing |= {"patches": [], "plugins": []}
    environ = {key: value for key, value in os.environ.items() if key != config.ROOT_VARIABLE}
    environ |= {"LEAKAGENT": "1", "LEAKAGENT_REPORT": "off"}
    try:
        ran = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", _PROBE], env=environ, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        answer = json.loads(ran.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return {**nothing, "problem": f"{type(error).__name__}: {error}"}
    return {**nothing, **answer, "problem": ran.stderr.strip()[:500]}


def _hook_files() -> list[str]:
    import site

    folders = [*site.getsitepackages(), site.getusersitepackages()]
    return [
        path
        for folder in folders
        for name in ("leakagent.pth", "leakagent.start")
        if os.path.exists(path := os.path.join(folder, name))
    ]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _lines(found: dict[str, Any]) -> list[str]:
    hook = found["hook"]
    runs = (
        "yes"
        if hook["active"]
        else "NO: with LEAKAGENT=1 the agent does not start; "
        + (
            "install leakagent in this environment (pip), or put sitecustomize_template on PYTHONPATH"
            if not found["hook_files"]
            else "the interpreter skips .pth files (python -S, or a hidden file)"
        )
    )
    lines = [
        f"leakagent {found['leakagent']}, Python {found['python']} ({found['executable']})",
        f"start-up hook runs   {runs}",
        f"hook files           {', '.join(found['hook_files']) or 'none'}",
        f"patches in force     {len(found['patches'])}",
        *(f"    {name}" for name in found["patches"]),
    ]
    lines += [
        f"plug-in              {one['plugin']} of {one['package']}, for {one['target']}: {', '.join(one['kinds'])}"
        if not one["problem"]
        else f"BROKEN PLUG-IN       {one['plugin']} of {one['package']}, for {one['target']}: {one['problem']}"
        for one in found["plugins"]
    ]
    lines += [f"SWITCHED OFF         {part}: {cause}" for part, cause in found["disabled"].items()]
    lines += [f"NOT IN THIS PYTHON   {name}" for name, there in found["private_names"].items() if not there]
    lines += [f"WRONG SETTING        {error}" for error in found["setting_errors"]]
    lines += [f"early imports        {', '.join(hook['early'])}"] if hook["early"] else []
    lines += [f"hook said            {hook['problem']}"] if hook["problem"] else []
    lines.append("settings             " + ", ".join(f"{key}={value}" for key, value in found["settings"].items()))
    lines.append("versions             " + ", ".join(f"{k} {v}" for k, v in found["versions"].items() if v))
    installed = [name for name, there in found["exporters"].items() if there]
    lines.append(f"exporters            console, {', '.join(installed)}" if installed else "exporters            console")
    lines += [f"    {key}={value}" for key, value in found["otel_variables"].items()]
    lines.append("all well" if found["ok"] else "something needs attention, see above")
    return lines
