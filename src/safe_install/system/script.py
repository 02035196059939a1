"""Stand-alone: runs a command for which some folders are read-only, where the system lets us; else
as it is.

Standard library only, Python 3.8 syntax. `argv[1]` is JSON: {"folders": [], "written": [],
"in_user_namespace": true}; the rest is the command, which takes the place of this process: its
standard streams, signals and exit status are its own. `folders` are to be read-only (real paths);
`written` are those in which the command has to write.

First choice: a mount namespace of its own (unshare(2), mount(2)) in which the folders are bound to
themselves, read-only. A user without the right to mount gets a user namespace with it, in which the
user is still the same one; root does not, since a root that is mapped alone may not touch the files
of others.

Second choice: Landlock (landlock(7)), which needs no right at all. It cannot take a folder out of
what is allowed. So writing is allowed in everything that lies beside the way from / down to the
folders, and not in the folders of that
way themselves: nothing new can be made there. Where one of them has to be written to, Landlock is
of no use.
"""

import ctypes
import json
import os
import signal
import struct
import sys
import tempfile

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 1, 32, 4096, 16384, 1 << 19
# Flags of the mount that a user may not take away (nosuid, nodev, noexec, noatime, nodiratime), and
# relatime, whose number in statvfs(3) is another one.
KEPT_FLAGS, ST_RELATIME, MS_RELATIME = 2 | 4 | 8 | 1024 | 2048, 4096, 1 << 21

# include/uapi/linux/landlock.h. The numbers of the system calls are those of x86, ARM, POWER, s390
# and RISC-V; elsewhere they are none (ENOSYS).
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_VERSION, RULE_PATH_BENEATH, PR_SET_NO_NEW_PRIVS = 1, 1, 38
# the first version, of Linux 5.13, forbids every rename from one folder to another
OLDEST_LANDLOCK = 2
WRITE_FILE, MAKE_AND_REMOVE, REFER, TRUNCATE = 1 << 1, 0b1111111110000, 1 << 13, 1 << 14
FIRST_WITH_TRUNCATE = 3
# where compilers and pip keep what they keep
FOLDERS_OF_THE_BUILD = ("HOME", "XDG_CACHE_HOME", "PIP_CACHE_DIR")


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
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as stream:
                stream.write(text)
    check(libc, libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None))


def make_read_only(libc, folder):
    """Bind a folder to itself, then take the right to write away."""
    name = os.fsencode(folder)
    check(libc, libc.mount(name, name, None, ctypes.c_ulong(MS_BIND | MS_REC), None))
    flags = os.statvfs(folder).f_flag
    kept = flags & KEPT_FLAGS | (MS_RELATIME if flags & ST_RELATIME else 0)
    check(
        libc,
        libc.mount(None, name, None, ctypes.c_ulong(MS_REMOUNT | MS_BIND | MS_RDONLY | kept), None),
    )
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


def find_written(order):
    """The real paths of all folders in which the command has to write, and may today."""
    named = [os.environ.get(name, "") for name in FOLDERS_OF_THE_BUILD]
    found = []
    for folder in [tempfile.gettempdir(), *order["written"], *named]:
        folder = os.path.realpath(os.path.expanduser(folder)) if folder else "/"
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)  # it would be made there
        if folder != "/" and os.access(folder, os.W_OK):
            found.append(folder)
    return found


def is_above(upper, folder):
    """Is it the same folder, or one on the way to it?"""
    return os.path.commonpath([upper, folder]) == upper


def find_writable(upper, folders):
    """What lies beside the way from `upper` down to the folders: (path, is it a folder?). Links
    count by their target, which lies beside the way, too, or is not writable."""
    with os.scandir(upper) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.is_symlink() or entry.path in folders:
                continue
            if is_folder and any(is_above(entry.path, folder) for folder in folders):
                yield from find_writable(entry.path, folders)
            else:
                yield entry.path, is_folder


def call(libc, number, *arguments):
    """A system call. Errors: OSError."""
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def forbid_writing(order):
    """Landlock. Errors: OSError; then nothing was changed."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = call(libc, CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(ASK_VERSION))
    folders = order["folders"]
    for written in find_written(order):
        if version < OLDEST_LANDLOCK or any(
            is_above(written, f) or is_above(f, written) for f in folders
        ):
            raise OSError("Landlock cannot keep these folders apart")
    for_files = WRITE_FILE | (TRUNCATE if version >= FIRST_WITH_TRUNCATE else 0)
    for_folders = for_files | MAKE_AND_REMOVE | REFER
    rules = call(
        libc, CREATE_RULESET, struct.pack("=Q", for_folders), ctypes.c_size_t(8), ctypes.c_uint(0)
    )
    for path, is_folder in find_writable("/", folders):
        try:
            number = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # it has gone
        rule = struct.pack("=Qi", for_folders if is_folder else for_files, number)
        call(
            libc,
            ADD_RULE,
            ctypes.c_int(rules),
            ctypes.c_int(RULE_PATH_BENEATH),
            rule,
            ctypes.c_uint(0),
        )
        os.close(number)
    check(libc, libc.prctl(PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))))
    call(libc, RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint(0))
    os.close(rules)


def main():
    """Protect the folders, then become the command."""
    order, command = json.loads(sys.argv[1]), sys.argv[2:]
    if is_possible(order):
        protect(order)
        os.chdir(os.getcwd())  # it may lie in what was just bound
    else:
        try:
            forbid_writing(order)
        except OSError:
            pass  # the command runs as it is
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        # Python ignores them, and the command would inherit that
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
