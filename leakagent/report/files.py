"""Writing a report file: whole or not at all, and never over something that is no file."""

from __future__ import annotations

import contextlib
import os
import stat
import time

#: Longest wait for a reader that does not take what is written, in seconds.
PATIENCE_S = 1.0
_DEVICE_FOLDERS = ("/dev/", "/proc/")


def is_device(path: str) -> bool:
    """Say whether a path is a terminal, a pipe or another thing that must be written to and never replaced."""
    if os.path.abspath(path).startswith(_DEVICE_FOLDERS):
        return not os.path.abspath(path).startswith("/dev/shm/")  # noqa: S108 - named to tell it apart, not used
    try:
        return not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path)
    except (OSError, ValueError):
        return False


def write_text(path: str, text: str) -> None:
    """Write a text in UTF-8 to a file, atomically; folders on the way are created.

    A symbolic link stays, and what it points to is replaced.  A device or a pipe is written to directly.

    Args:
        path: Where to.
        text: What; lone surrogates are written as backslash escapes.

    Raises:
        OSError: It can't be written; the message names the path and the cause, and nothing is left behind.

    """
    data = text.encode("utf-8", "backslashreplace")
    try:
        if is_device(path):
            _append(path, data)
        else:
            _replace(os.path.realpath(path), data)
    except (FileExistsError, NotADirectoryError) as error:
        message = f"can't write to {path!r}: a file stands where a folder is needed"
        raise OSError(message) from error
    except OSError as error:
        message = f"can't write to {path!r}: {error.strerror or error}"
        raise OSError(message) from error
    except ValueError as error:
        message = f"can't write to {path!r}: {error}"
        raise OSError(message) from error


def _append(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    descriptor = os.open(path, flags)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def _replace(path: str, data: bytes) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".leakagent-{os.getpid()}-{os.urandom(4).hex()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    written = False
    try:
        try:
            write_all(descriptor, data)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        written = True
    finally:
        if not written:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_all(descriptor: int, data: bytes) -> None:
    """Write bytes to a descriptor, also to one that does not block.

    Raises:
        OSError: The write failed, or nobody took the bytes for `PATIENCE_S`.

    """
    rest = memoryview(data)
    deadline = time.monotonic() + PATIENCE_S
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
