"""Start leakagent where no package can be installed into site-packages: put this folder first on ``PYTHONPATH``.

Python imports one ``sitecustomize`` only, the first on the path, so this one hides any other: it runs that one too, before
the agent, and leaves it in ``sys.modules`` as if it had been found first.  With ``LEAKAGENT`` unset nothing else happens.
"""

import os
import sys


def _run_hidden():
    """Import the sitecustomize that this file hides, exactly as Python would have done without this one."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    here = os.path.dirname(os.path.abspath(__file__))
    rest = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
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


def _start_agent():
    try:
        from leakagent.bootstrap import start
    except ImportError:
        # leakagent is not importable by this interpreter (another Python that inherited PYTHONPATH).
        return
    start()


try:
    _run_hidden()
finally:
    if os.environ.get("LEAKAGENT"):
        _start_agent()
