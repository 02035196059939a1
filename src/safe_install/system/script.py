"""Stand-alone: runs a command with some folders read-only, if the system allows it.

Standard library only, Python 3.8 syntax. `argv[1]` is JSON: {"folders": [], "written": [],
"in_user_namespace": true}. `folders` become read-only (real paths); the command must write into
`written`. The other arguments are the command. It replaces this process, so its standard streams,
signals and exit status are its own.

First choice: a new mount namespace (unshare(2), mount(2)), in which the folders are bound to
themselves, read-only. A user who must not mount also gets a user namespace, in which the user id
stays the same. Root does not get one: mapped alone, it could not access the files of other users.

Second choice: Landlock (landlock(7)), which needs no privileges. It can only allow writing below
folders, without exceptions. So it is allowed in everything beside the paths from / to the folders,
and nothing new can be made in the folders on these paths. If the command must write into one of
them, Landlock cannot be used.
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
# Flags of a mount that a user must not remove (nosuid, nodev, noexec, noatime, nodiratime), and
# relatime, which has another number in statvfs(3).
KEPT_FLAGS, ST_RELATIME, MS_RELATIME = 2 | 4 | 8 | 1024 | 2048, 4096, 1 << 21

# include/uapi/linux/landlock.h. The system calls have these numbers on x86, ARM, POWER, s390 and
# RISC-V; elsewhere they fail (ENOSYS).
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_VERSION, RULE_PATH_BENEATH, PR_SET_NO_NEW_PRIVS = 1, 1, 38
# version 1 (Linux 5.13) forbids all renames from one folder to another
OLDEST_LANDLOCK = 2
WRITE_FILE, MAKE_AND_REMOVE, REFER, TRUNCATE = 1 << 1, 0b1111111110000, 1 << 13, 1 << 14
FIRST_WITH_TRUNCATE = 3
# the variables with the folders in which compilers and pip keep files
FOLDER_VARIABLES = ("HOME", "XDG_CACHE_HOME", "PIP_CACHE_DIR")


def check(result):
    """Check the result of a call of the C library. Errors: OSError, from errno."""
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter_namespace(libc, in_user_namespace):
    """Enter a new mount namespace. Mounts in it have no effect outside. Errors: OSError."""
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWNS) != 0:
        if user == 0 or not in_user_namespace:
            raise PermissionError("this user may not mount")
        check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as stream:
                stream.write(text)
    check(libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None))


def make_read_only(libc, folder):
    """Bind a folder to itself, and make the mount read-only. Errors: OSError."""
    name = os.fsencode(folder)
    check(libc.mount(name, name, None, ctypes.c_ulong(MS_BIND | MS_REC), None))
    flags = os.statvfs(folder).f_flag
    kept = flags & KEPT_FLAGS | (MS_RELATIME if flags & ST_RELATIME else 0)
    changed = ctypes.c_ulong(MS_REMOUNT | MS_BIND | MS_RDONLY | kept)
    check(libc.mount(None, name, None, changed, None))
    if not os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise OSError(f"{folder} is still writable")


def protect(request):
    """Make the folders read-only in a new namespace. Errors: OSError; this process must then end,
    since a part cannot be undone."""
    libc = ctypes.CDLL(None, use_errno=True)
    enter_namespace(libc, request["in_user_namespace"])
    for folder in request["folders"]:
        make_read_only(libc, folder)


def can_protect(request):
    """Try it in a child process."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            protect(request)
            status = 0
        except Exception:
            pass
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def find_written(request):
    """The real paths of the folders in which the command must write. Those that are not writable
    now are left out."""
    named = [os.environ.get(name, "") for name in FOLDER_VARIABLES]
    found = []
    for folder in [tempfile.gettempdir(), *request["written"], *named]:
        folder = os.path.realpath(os.path.expanduser(folder)) if folder else "/"
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)  # the command will make the folder in this one
        if folder != "/" and os.access(folder, os.W_OK):
            found.append(folder)
    return found


def is_above(upper, folder):
    """Does `folder` lie below `upper`, or is it the same?"""
    return os.path.commonpath([upper, folder]) == upper


def find_writable(upper, folders):
    """The entries beside the paths from `upper` to the folders, as (path, is it a folder?). Links
    are left out: only their targets count."""
    with os.scandir(upper) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.is_symlink() or entry.path in folders:
                continue
            if is_folder and any(is_above(entry.path, folder) for folder in folders):
                yield from find_writable(entry.path, folders)
            else:
                yield entry.path, is_folder


def system_call(libc, number, *arguments):
    """A system call. Errors: OSError."""
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def must_write_into(request):
    """Must the command write into one of the folders, or into one that contains it?"""
    for written in find_written(request):
        for folder in request["folders"]:
            if is_above(written, folder) or is_above(folder, written):
                return True
    return False


def allow(libc, rules, path, rights):
    """Add a rule of Landlock that allows the rights for a path. Errors: OSError."""
    try:
        number = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # it was removed
    rule = struct.pack("=Qi", rights, number)
    kind = ctypes.c_int(RULE_PATH_BENEATH)
    system_call(libc, ADD_RULE, ctypes.c_int(rules), kind, rule, ctypes.c_uint(0))
    os.close(number)


def forbid_writing(request):
    """Forbid writing into the folders with Landlock. Errors: OSError; nothing is changed then."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = system_call(
        libc, CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(ASK_VERSION)
    )
    if version < OLDEST_LANDLOCK or must_write_into(request):
        raise OSError("Landlock cannot separate these folders")
    for_files = WRITE_FILE | (TRUNCATE if version >= FIRST_WITH_TRUNCATE else 0)
    for_folders = for_files | MAKE_AND_REMOVE | REFER
    handled = struct.pack("=Q", for_folders)
    size = ctypes.c_size_t(len(handled))
    rules = system_call(libc, CREATE_RULESET, handled, size, ctypes.c_uint(0))
    for path, is_folder in find_writable("/", request["folders"]):
        allow(libc, rules, path, for_folders if is_folder else for_files)
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))))
    system_call(libc, RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint(0))
    os.close(rules)


def main():
    """Protect the folders, then become the command."""
    request, command = json.loads(sys.argv[1]), sys.argv[2:]
    if can_protect(request):
        protect(request)
        os.chdir(os.getcwd())  # enter the new mount, if the working folder is in one
    else:
        try:
            forbid_writing(request)
        except OSError:
            pass  # the command runs without protection
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        # Python ignores these signals, and the command would inherit that.
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
