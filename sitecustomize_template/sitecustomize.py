"""Start leakagent where no package can be installed into site-packages: put this folder first on ``PYTHONPATH``.

Python imports one ``sitecustomize`` only, the first on the path, so this one hides any other: it runs that one too, before
the agent, and leaves it in ``sys.modules`` as if it had been found first.  With ``LEAKAGENT`` unset nothing else happens.

``opentelemetry-instrument`` works the same way and runs nobody else's: its launcher puts a folder with a ``sitecustomize`` in
front of ``PYTHONPATH`` and becomes the program, and in the program that ``sitecustomize`` puts the folder in front once more, for
children.  So we come first again at both places: in the launcher as it becomes the program, and in the program after the
hidden ``sitecustomize`` has run.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _run_hidden():
    """Import the sitecustomize that this file hides, exactly as Python would have done without this one."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    rest = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != _HERE]
    spec = PathFinder.find_spec("sitecustomize", rest)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    ours = sys.modules.get("sitecustomize")
    sys.modules["sitecustomize"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules["sitecustomize"] = ours
        raise


def _come_first():
    """Put this folder in front of PYTHONPATH again, if another one was put there."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    ours = [entry for entry in entries if entry and os.path.abspath(entry) == _HERE]
    if ours and entries[0] != ours[0]:
        os.environ["PYTHONPATH"] = os.pathsep.join([ours[0], *(entry for entry in entries if entry not in ours)])


def _come_first_in_what_it_becomes():
    """In a launcher: come first at the moment in which it becomes the program."""
    original = os.execv  # what os.execl calls

    def execv(path, arguments):
        _come_first()
        original(path, arguments)

    os.execv = execv


def _start_agent():
    try:
        from leakagent.bootstrap import start
    except ImportError:
        # leakagent is not importable by this interpreter (another Python that inherited PYTHONPATH).
        return
    start()


_before = os.environ.get("PYTHONPATH")
try:
    _run_hidden()
finally:
    if os.environ.get("LEAKAGENT"):
        if os.environ.get("PYTHONPATH") != _before:
            _come_first()
        if os.path.basename("".join(sys.orig_argv[1:2])).startswith("opentelemetry-instrument"):
            _come_first_in_what_it_becomes()
        _start_agent()
