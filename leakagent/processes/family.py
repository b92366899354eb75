"""One report for the whole tree: children hand their findings to the process that the user started.

A child writes its report into the root's spool folder, in the user's runtime directory, and the root takes it up at its own end.
The folder belongs to the user alone (mode 0700, checked, no symbolic link followed), and the name holds the root's pid and start
time, so that a reused pid can't be met.  A child that outlives its root keeps its findings for its own report file.

A root that is killed leaves its folder behind; each root removes such folders when it has told its own findings.  A root is gone if
the kernel says so, and pids mean something only where they were given: the name holds the boot and the pid namespace as well,
because the folder of a container or of another host can be the same one.
"""

from __future__ import annotations

import os
import stat

from leakagent import config

from .identity import is_gone, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LARGEST = 4 * 1024 * 1024

#: Folders of dead roots that one program removes at most.
_MOST_SWEPT = 100


def runtime_folder(*, create: bool) -> str:
    """Return the user's private folder for files that live as long as processes do; empty if there is no safe one.

    Args:
        create: Make it if it is missing.

    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = os.path.join(base, "leakagent") if base else ""
    if not base or not os.path.isdir(base):
        folder = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"leakagent-{user}")  # noqa: S108 - checked below
    if create:
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
        except OSError:
            return ""
    return folder if is_private(folder, user) else ""


def is_private(folder: str, user: int) -> bool:
    """Say whether a folder is a real one that belongs to the user alone."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and (os.name == "nt" or (found.st_uid == user and not found.st_mode & 0o077))


def _spool(marker: str, *, create: bool) -> str:
    folder = runtime_folder(create=create)
    if not folder:
        return ""
    spool = os.path.join(folder, _name(marker))
    if create:
        try:
            os.mkdir(spool, 0o700)
        except FileExistsError:
            pass
        except OSError:
            return ""
    return spool


def _name(marker: str) -> str:
    """Return the name of a root's spool folder."""
    return f"spool-{marker.replace(':', '-')}-{place()}"


def hand_over(environ: Mapping[str, str], text: str) -> bool:
    """Give a child's report to the living root.

    Args:
        environ: The environment that carries the root's marker.
        text: The child's JSON report.

    Returns:
        Whether it was handed over.

    """
    if not config.root_of(environ):
        return False
    spool = _spool(environ[config.ROOT_VARIABLE], create=True)
    if not spool:
        return False
    final = os.path.join(spool, f"{os.getpid()}-{config.start_time(os.getpid())}.json")
    try:
        with open(final + ".part", "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        os.replace(final + ".part", final)
    except OSError:
        return False
    return True


def take_over(marker: str) -> Iterator[str]:
    """Return the reports that children of this root have handed over, and remove them."""
    spool = _spool(marker, create=False)
    try:
        names = sorted(os.listdir(spool)) if spool else []
    except OSError:
        return
    for name in names:
        path = os.path.join(spool, name)
        try:
            if name.endswith(".json") and os.lstat(path).st_size <= _LARGEST and not os.path.islink(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    yield file.read()
            os.unlink(path)
        except OSError:
            continue
    try:
        os.rmdir(spool)
    except OSError:
        return


def sweep() -> None:
    """Remove the spool folders of roots that are gone; whatever is not proven to be one stays."""
    folder, here = runtime_folder(create=False), place()
    try:
        names = [name for name in os.listdir(folder) if name.startswith("spool-")] if folder and here else []
    except OSError:
        return
    for name in names[:_MOST_SWEPT]:
        pid, _, started = name.removeprefix("spool-").removesuffix(f"-{here}").partition("-")
        if pid.isdecimal() and started.isdecimal() and name == _name(f"{pid}:{started}") and is_gone(int(pid), started):
            _remove(os.path.join(folder, name))


def _remove(spool: str) -> None:
    if not is_private(spool, os.getuid()):
        return
    try:
        for name in os.listdir(spool):
            stem, _, kind = name.partition(".")
            if kind in {"json", "json.part"} and stem.replace("-", "").isdecimal():
                os.unlink(os.path.join(spool, name))
        os.rmdir(spool)
    except OSError:  # another root was faster, or there is something else in it
        return
