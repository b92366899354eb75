"""Is this long wait a stall, or does the program wait because there is nothing to do?  Rules that err towards silence.

The problem.  A worker that waits for the next job, a server for the next client, ``await stop.wait()``: most tasks of most programs wait for hours,
and rightly so.  From outside, a request that will never be answered looks the same: a pending task that makes no progress.

What does not work.  A time limit alone: it calls every server stalled.  The name of what is waited for: a client of a push service waits
in the same ``StreamReader.read`` as one whose backend is gone.  Excluding known idle loops only: the next library has another one.

What we do.  Without progress means: the same frames at the same instructions wait for the very same object at every look for the whole
threshold, and no timer is going to end it (one that completes the future or cancels a task of the chain counts as progress).  Then one of these has
to be true, each a sign that somebody is owed something:

- it was asked to end: the task, or one that waits for it, was cancelled (``wait_for`` whose time is over, Ctrl+C) and still waits;
- it waits in the answer of a language model's client (`MODEL_CLIENTS`): no such stream is idle by design;
- its peer owes an answer: in a TCP connection that this process has opened, the last data went out after the last data came in, both longer ago than
  the threshold (the kernel tells: ``TCP_INFO``), and somebody waits for the task;
- nobody can complete what it waits for (`leakagent.detect.stranded`), and it is not meant to wait for ever (`waits_on_purpose`).

Waits in `IDLE` are never called stalled: queues, events, conditions, locks, semaphores, child processes, servers, and those for other tasks, which
are looked at by themselves.

What is still open.  A stream that is cut off in the middle of an answer (and is no model's), a connection through a Unix socket, a deadlock of locks: no
sign, no finding.  Outside of Linux there is no ``TCP_INFO``.
"""

from __future__ import annotations

import re

from leakagent.core.sites import is_installed, shown_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from leakagent.core.records import Record

#: Functions of `asyncio` in which a task waits until there is something to do, or for others: module, functions (empty: all).
IDLE: dict[str, tuple[str, ...]] = {
    "queues": (),
    "locks": (),
    "subprocess": (),
    "base_subprocess": (),
    "taskgroups": (),
    "timeouts": (),
    "staggered": (),
    "runners": (),
    "tasks": (),
    "base_events": ("serve_forever", "wait_closed", "shutdown_default_executor", "shutdown_asyncgens"),
    "selector_events": ("sock_accept",),
    "proactor_events": ("sock_accept",),
}

#: Installed packages that are clients of language models: in their frames a task waits for the next piece of an answer.
MODEL_CLIENTS = (
    "openai/",
    "anthropic/",
    "llama_index/llms/",
    "llama_index/core/llms/",
    "llama_index/core/chat_engine/",
    "ollama/",
    "litellm/",
    "mistralai/",
    "cohere/",
    "groq/",
    "google/genai/",
    "huggingface_hub/",
)

#: Conversations that stay open, in the same packages.
_OPEN_ENDED = ("realtime", "websocket", "/live.py")

#: Frames of a debugger, a notebook or a console: people look at them, and take their time.
_ATTENDED = (
    "/pdb.py",
    "/bdb.py",
    "/ipykernel/",
    "/IPython/",
    "/debugpy/",
    "/pydevd",
    "/_pydevd_bundle/",
    "/code.py",
    "/_pyrepl/",
)

#: An await that can't end but by cancellation, written as such: ``await asyncio.Future()``, ``await asyncio.Event().wait()``.
_FOR_EVER = re.compile(r"\bawait\b.*\b(create_future|Future|Event)\(\)")

#: One step of a wait: path of the source file, name of the function.
Step = tuple[str, str]


class Stall:
    """Something that makes no progress, or is told while the program runs for another reason, as it was last seen.

    Attributes:
        record: The task, pool or event loop.
        reason: ``stalled`` or ``stranded``; of clients what is wrong with them.
        chain: Path, line and function of each frame that it waits in, outermost first; empty if nobody waits.
        evidence: How the agent knows.
        fix: What to write at the site; empty for the usual text.

    """

    __slots__ = ("chain", "evidence", "fix", "reason", "record")

    def __init__(
        self, record: Record, reason: str, chain: list[tuple[str, int, str]], evidence: list[str], *, fix: str = ""
    ) -> None:
        """Note what was seen."""
        self.record = record
        self.fix = fix
        self.reason = reason
        self.chain = chain
        self.evidence = evidence


def is_idle(steps: Sequence[Step], asyncio_folder: str) -> bool:
    """Say whether a task waits where there may be nothing to do.

    Args:
        steps: Its await chain, outermost first.
        asyncio_folder: Where asyncio's sources are.

    """
    if not steps:
        return True
    path, function = steps[-1]
    if _is_socket_of_anyio(steps):
        return False
    folder, _, name = path.replace("\\", "/").rpartition("/")
    if folder != asyncio_folder:
        # anyio's threads, tasks and streams between tasks wait here, for their own reasons.
        return "/anyio/" in path
    allowed = IDLE.get(name.removesuffix(".py"))
    return allowed is not None and (not allowed or function in allowed)


def _is_socket_of_anyio(steps: Sequence[Step]) -> bool:
    # ``SocketStream.receive`` waits for an event that the protocol sets when data comes in.
    return len(steps) > 1 and any(
        path.endswith("anyio/_backends/_asyncio.py") and function in {"receive", "send"} for path, function in steps[-2:]
    )


def is_a_model_client(paths: Sequence[str]) -> bool:
    """Say whether one of the frames belongs to a client of a language model, and none to a conversation that stays open."""
    if any(part in path for path in paths for part in _OPEN_ENDED):
        return False
    return any(is_installed(path) and shown_path(path, "").startswith(MODEL_CLIENTS) for path in paths)


def is_attended(paths: Sequence[str]) -> bool:
    """Say whether a person may be looking at this stack: a debugger, a console, a notebook's cell."""
    return any(part in path.replace("\\", "/") for path in paths for part in _ATTENDED)


def waits_on_purpose(source: str) -> bool:
    """Say whether a source line is written to wait until it is cancelled; so is one that can't be read."""
    return not source or _FOR_EVER.search(source) is not None


def is_owed(last_sent: int, last_received: int | None, threshold: float) -> bool:
    """Say whether the other end of a connection has not answered.

    Args:
        last_sent: Milliseconds since data went out (``tcpi_last_data_sent``).
        last_received: The same for data that came in (``tcpi_last_data_recv``); None if none ever did.
        threshold: Seconds that both must be ago.

    """
    return threshold * 1000 <= last_sent and (last_received is None or last_sent < last_received)
