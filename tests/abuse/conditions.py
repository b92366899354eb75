"""Becomes a program under bad conditions; standard library only, Linux.

    python conditions.py CONDITION... -- COMMAND...

Conditions: ``no-proc`` (an empty folder in its place), ``read-only=FOLDER`` (mounted so), ``no-pidfd`` (the kernel refuses it by seccomp, as a
container's profile does), ``descriptors=N`` and ``memory=MB`` (limits above what the process has), ``no-home``.  Mounts happen in a namespace
of the process's own, which needs root.
"""

import ctypes
import errno
import os
import resource
import struct
import sys

NOT_ALLOWED = 77

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
#: The same on all machines: pidfd_send_signal, pidfd_open, pidfd_getfd.
_PIDFD = (424, 434, 438)

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *arguments):
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _mount(source, target, kind, flags):
    _call("mount", source and source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), None)


def _own_mounts(folder):
    user, group = os.geteuid(), os.getegid()
    try:
        _call("unshare", _CLONE_NEWNS if user == 0 else _CLONE_NEWNS | _CLONE_NEWUSER)
    except OSError as error:
        print(error, file=sys.stderr)
        raise SystemExit(NOT_ALLOWED) from None
    if user != 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    for place in ("/", folder):
        try:
            _mount(None, place, None, _MS_REC | _MS_PRIVATE)
        except OSError as error:
            # In a chroot "/" is no mount, and what is mounted elsewhere is not seen from there.
            if error.errno != errno.EINVAL:
                raise
        else:
            return


def no_proc():
    _own_mounts("/proc")
    _mount("none", "/proc", "tmpfs", _MS_RDONLY)


def read_only(folder):
    _own_mounts(folder)
    _mount(folder, folder, None, _MS_BIND)
    _mount(folder, folder, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY)


def no_pidfd():
    load, equal, answer = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM
    filters = [(load, 0, 0, 0)]
    for place, number in enumerate(_PIDFD):
        filters.append((equal, len(_PIDFD) - place, 0, number))
    filters += [(answer, 0, 0, allow), (answer, 0, 0, refuse)]
    code = b"".join(struct.pack("HBBI", *one) for one in filters)
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HL", len(filters), ctypes.addressof(held))
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.create_string_buffer(program, len(program)), 0, 0)
    try:
        os.pidfd_open(os.getpid())
    except PermissionError:
        return
    sys.exit("the filter does not work")


def main():
    words = sys.argv[1:]
    end = words.index("--")
    for word in words[:end]:
        name, _, value = word.partition("=")
        if name == "no-proc":
            no_proc()
        elif name == "read-only":
            read_only(value)
        elif name == "no-pidfd":
            no_pidfd()
        elif name == "descriptors":
            resource.setrlimit(resource.RLIMIT_NOFILE, (int(value), int(value)))
        elif name == "memory":
            resource.setrlimit(resource.RLIMIT_AS, (int(value) << 20, int(value) << 20))
        elif name == "no-home":
            for variable in ("HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "TMPDIR", "PATH"):
                os.environ.pop(variable, None)
        else:
            sys.exit(f"no such condition: {word}")
    os.execv(words[end + 1], words[end + 1 :])


if __name__ == "__main__":
    main()
