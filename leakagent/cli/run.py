"""``python -m leakagent script.py``: run a program as ``python`` would, with the agent in it.

The program runs in this process, so that its exit status is known exactly.  What ``python`` does around a program is done
here in the same way: ``sys.argv``, ``sys.path[0]``, the contents of ``__main__`` (the module object is the interpreter's own), and
tracebacks without our frames.  ``leakagent run -- COMMAND`` sets the environment and becomes that command.
"""

from __future__ import annotations

import os
import sys

from leakagent import agent, config, guard
from leakagent.shutdown import interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn

_SWITCHES = {"--fail-on-leak": "fail_on_leak"}


def main(words: list[str]) -> None:
    """Run the program or command behind the options."""
    rest = _options(words)
    if rest[:1] == ["--"]:
        _become(rest[1:])
    if not rest:
        _usage("no program given")
    os.environ["LEAKAGENT"] = "1"
    settings, errors = config.load()
    if settings.baseline and not errors:
        from leakagent.report import baseline

        try:
            baseline.read(settings.baseline)
        except (OSError, ValueError) as error:
            errors = [baseline.problem(settings.baseline, error)]
    if errors:
        for line in errors:
            guard.say(line)
        raise SystemExit(2)
    watched = agent.start(settings, "command line")
    _run(rest, watched)


def _options(words: list[str]) -> list[str]:
    """Put the options into the environment (children inherit them) and return the rest."""
    rest = list(words)
    if os.environ.get("LEAKAGENT", "1") and _is_wrong_switch():
        guard.say(config.load()[1][0])
        raise SystemExit(2)
    while rest and rest[0].startswith("-") and rest[0] not in {"-m", "-c", "-", "--"}:
        word, equals, value = rest.pop(0).partition("=")
        if word in {"-h", "--help"}:
            from . import USAGE

            print(USAGE, end="")  # noqa: T201 - what was asked for
            raise SystemExit(0)
        if word == "--version":
            from leakagent import __version__

            print(f"leakagent {__version__}")  # noqa: T201
            raise SystemExit(0)
        if word in _SWITCHES:
            os.environ[config.variable(_SWITCHES[word])] = value if equals else "1"
            continue
        name = word[2:].replace("-", "_")
        if not word.startswith("--") or (name not in config.OPTIONS and name != "config"):
            _usage(f"there is no option {word}")
        if not equals:
            if not rest:
                _usage(f"{word} needs a value")
            value = rest.pop(0)
        os.environ[config.variable(name)] = value
    return rest


def _is_wrong_switch() -> bool:
    return any(error.startswith("LEAKAGENT=") for error in config.load()[1])


def _usage(message: str) -> NoReturn:
    sys.stderr.write(f"leakagent: {message}; `python -m leakagent --help` shows the usage\n")
    raise SystemExit(2)


def _become(command: list[str]) -> NoReturn:
    """Become another program, with the agent asked for in its environment."""
    if not command:
        _usage("no command given behind --")
    os.environ["LEAKAGENT"] = "1"
    _, errors = config.load()
    for error in errors:
        guard.say(error)
    if errors:
        raise SystemExit(2)
    running = agent.current()
    if running is not None:
        running.stop()
    os.environ.pop(config.ROOT_VARIABLE, None)
    os.environ["LEAKAGENT"] = "1"
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)  # noqa: S606 - what the user asked for
    except OSError as error:
        sys.stderr.write(f"leakagent: {command[0]}: {error.strerror}\n")
        # As a shell: 127 for a command that is not there, 126 for one that can't be run.
        raise SystemExit(127 if isinstance(error, FileNotFoundError) else 126) from None


# -- running as python does ------------------------------------------------------------------------------------------


def _run(words: list[str], watched: agent.Agent) -> None:
    hook = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        # Called by the interpreter for an exception that nobody caught, when our frames are the outermost ones.
        current = sys.excepthook
        if current is show:
            sys.excepthook = hook
        error.__traceback__ = trace = _without_ours(trace)
        sys.last_traceback = trace
        hook(kind, error, trace)

    try:
        if words[0] == "-c":
            _run_code(words)
        elif words[0] == "-m":
            _run_module(words)
        elif words[0] == "-":
            _run_stdin(words)
        else:
            _run_path(words)
    except SystemExit as end:
        watched.status = agent.status_of(end.code)
        raise
    except BaseException as error:
        watched.status = -2 if isinstance(error, KeyboardInterrupt) else 1
        if sys.excepthook is not hook:
            hook = sys.excepthook
        sys.excepthook = show
        raise
    watched.status = 0


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """Drop the outermost entries up to the last one of this module (and of `runpy`, which runs ``leakagent`` itself)."""
    last, step = None, trace
    while step is not None:
        code = step.tb_frame.f_code
        if code.co_filename == __file__ or code is interpreter.run_module_as_main.__code__:
            last = step
        step = step.tb_next
    return trace if last is None else last.tb_next


def _main_namespace(**names: object) -> dict[str, object]:
    """Empty the interpreter's own ``__main__`` module and fill it as ``python`` does."""
    namespace = vars(sys.modules["__main__"])
    builtins = namespace.get("__builtins__")
    namespace.clear()
    namespace.update({"__name__": "__main__", "__doc__": None, "__package__": None, "__loader__": None, "__spec__": None})
    if sys.version_info < (3, 14):
        namespace["__annotations__"] = {}
    namespace["__builtins__"] = builtins
    namespace.update(names)
    return namespace


def _cached() -> dict[str, None]:
    return {"__cached__": None} if sys.version_info < (3, 15) else {}


def _set_path(first: str) -> None:
    # ``python -m`` has put the working folder first, unless -I, -P or PYTHONSAFEPATH forbid it.
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[0] = first


def _run_code(words: list[str]) -> None:
    if len(words) == 1:
        _usage("argument expected for -c")
    sys.argv = ["-c", *words[2:]]
    _set_path("")
    code = compile(words[1] + "\n", "<string>", "exec", dont_inherit=True)
    interpreter.remember_source(code, words[1])
    namespace = _main_namespace(__loader__=_frozen_loader())
    exec(code, namespace)  # noqa: S102 - it is the user's program


def _run_stdin(words: list[str]) -> None:
    sys.argv = list(words)
    _set_path("")
    source = sys.stdin.read()
    namespace = _main_namespace(__file__="<stdin>", __loader__=_frozen_loader(), **_cached())
    exec(compile(source, "<stdin>", "exec", dont_inherit=True), namespace)  # noqa: S102


def _run_module(words: list[str]) -> None:
    if len(words) == 1:
        _usage("argument expected for -m")
    sys.argv = ["-m", *words[2:]]
    _main_namespace()
    interpreter.run_module_as_main(words[1], alter_argv=True)


def _run_path(words: list[str]) -> None:
    path = words[0]
    sys.argv = list(words)
    full = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    if os.path.isdir(path) or _is_zip(path):
        _main_namespace()
        if sys.flags.isolated or getattr(sys.flags, "safe_path", False):
            sys.path.insert(0, full)
        else:
            sys.path[0] = full
        interpreter.run_module_as_main("__main__", alter_argv=False)
        return
    try:
        import io

        with io.open_code(full) as file:
            source = file.read()
    except OSError as error:
        # The words and status of ``python`` itself.
        sys.stderr.write(f"{sys.orig_argv[0]}: can't open file {full!r}: [Errno {error.errno}] {error.strerror}\n")
        raise SystemExit(2) from None
    _set_path(os.path.dirname(os.path.realpath(path)))
    loader = _source_loader(full)
    namespace = _main_namespace(__file__=full, __loader__=loader, **_cached())
    exec(compile(source, full, "exec", dont_inherit=True), namespace)  # noqa: S102


def _is_zip(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) in {b"PK\x03\x04", b"PK\x05\x06"} or _has_archive_end(path)
    except OSError:
        return False


def _has_archive_end(path: str) -> bool:
    # A zip file may have anything in front (``#!`` line of zipapp): the importer for paths knows.
    if path.endswith(".py"):
        return False
    import zipimport

    try:
        zipimport.zipimporter(path)
    except zipimport.ZipImportError:
        return False
    return True


def _source_loader(path: str) -> object:
    from importlib.machinery import SourceFileLoader

    return SourceFileLoader("__main__", path)


def _frozen_loader() -> object:
    from importlib.machinery import BuiltinImporter

    return BuiltinImporter
