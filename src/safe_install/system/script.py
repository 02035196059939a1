"""Stand-alone: runs a command for which some folders are read-only, where the system lets us; else as it is.

Standard library only, Python 3.8 syntax. `argv[1]` is JSON: {"folders": [], "in_user_namespace": true}; the rest is the
command, which takes the place of this process: its standard streams, signals and exit status are its own.

A mount namespace of its own (unshare(2), mount(2)) in which the folders are bound to themselves, read-only. A user
without the right to mount gets a user namespace with it, in which the user is still the same one; root does not, since
a root that is mapped alone may not touch the files of others.
"""

import ctypes
import json
import os
import signal
import sys

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 1, 32, 4096, 16384, 1 << 19
# Flags of the mount that a user may not take away (nosuid, nodev, noexec, noatime, nodiratime), and relatime, whose
# number in statvfs(3) is another one.
KEPT_FLAGS, ST_RELATIME, MS_RELATIME = 2 | 4 | 8 | 1024 | 2048, 4096, 1 << 21


def check(libc, result):
    """Raise what a call of the C library left in errno."""
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter_namespace(libc, in_user_namespace):
    """A mount namespace of our own. What is mounted in it is seen nowhere else."""
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWNS) != 0:
        if user == 0 or not in_user_namespace:
            raise PermissionError("this user may not mount")
        check(libc, libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as stream:
                stream.write(text)
    check(libc, libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None))


def make_read_only(libc, folder):
    """Bind a folder to itself, then take the right to write away."""
    name = os.fsencode(folder)
    check(libc, libc.mount(name, name, None, ctypes.c_ulong(MS_BIND | MS_REC), None))
    flags = os.statvfs(folder).f_flag
    kept = flags & KEPT_FLAGS | (MS_RELATIME if flags & ST_RELATIME else 0)
    check(libc, libc.mount(None, name, None, ctypes.c_ulong(MS_REMOUNT | MS_BIND | MS_RDONLY | kept), None))
    if not os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise OSError(f"{folder} is still writable")


def protect(order):
    """All of it. Errors: OSError, in a process that has to end then."""
    libc = ctypes.CDLL(None, use_errno=True)
    enter_namespace(libc, order["in_user_namespace"])
    for folder in order["folders"]:
        make_read_only(libc, folder)


def is_possible(order):
    """Try it in a process that ends: half of it could not be taken back."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            protect(order)
            status = 0
        except Exception:
            pass
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def main():
    """Protect the folders, then become the command."""
    order, command = json.loads(sys.argv[1]), sys.argv[2:]
    if is_possible(order):
        protect(order)
        os.chdir(os.getcwd())  # it may lie in what was just bound
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them, and the command would inherit that
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
