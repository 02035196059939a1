"""Undo a change of an environment that was not finished. Stand-alone: every environment with a
journal has a copy.

    python -I -S <prefix>/.safe-install/recover.py [PREFIX]

It uses nothing but the standard library, in the syntax of Python 3.6, so that an environment whose
own
packages are half swapped can still be put back. `safe_install.transaction.swap` calls the same
functions:
undoing is written once.

Why it is one file, longer than any other here: `python -I` does not look for modules beside the
script, and what is copied as one file is never half of an old and half of a new version, whenever
the copying is killed.

How it decides: a journal is written once, before the first rename, and says for every path what it
was before
(`old`) and what it will be (`new`). Undo looks at the disk, path by path, and moves back what has
been moved.
It can be killed and run again at any moment. A path in neither of its two legal states means that
somebody
else worked here (drift): then nothing is touched.

Layout, all under `<prefix>/.safe-install/` (mode 0700, format 1):
    lock, lock.held, recover.py, txn-<id>/{stage/, stash/, journal | committed, summary.json},
    trash-*
The journal: one line with the sha256 of the rest, then one JSON object. Targets are relative to the
prefix,
slots relative to `.safe-install`; an identity is [kind, inode, size, mtime_ns], inode 0 is "not
compared".
"""

import base64
import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

FORMAT = 1
STATE_DIRECTORY = ".safe-install"
JOURNAL = "journal"
COMMITTED = "committed"
LOCK = "lock"
TRANSACTION_NAME = re.compile(r"^txn-(\d{8}T\d{6}Z-[0-9a-f]{4,8})$")

Document = Dict[str, Any]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_SYS_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "ppc64le": 357, "s390x": 347, "riscv64": 276}
# Path components that cannot name something inside a directory.
_NO_NAMES = ("", ".", "..")
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Identity(NamedTuple):
    """What tells whether the object at a path is still the same."""

    kind: str  # "f" file, "d" directory, "l" symbolic link, "o" anything else
    inode: int  # 0: not compared
    size: int  # of a directory: of its RECORD, 0 without one
    mtime_ns: int  # the same


class Exchange(NamedTuple):
    """A row of the journal: the old object at `target` and the new one at `slot` trade places."""

    target: str
    slot: str
    old: Identity
    new: Identity


class MoveOut(NamedTuple):
    """A row of the journal: the old object at `target` goes to `slot`."""

    target: str
    slot: str
    old: Identity


class MoveIn(NamedTuple):
    """A row of the journal: the new object at `slot` goes to `target`."""

    slot: str
    target: str
    new: Identity


class RemovedDirectory(NamedTuple):
    """A row of the journal: a directory that was empty after the moves out."""

    target: str
    mode: int
    uid: int
    gid: int


class MadeDirectory(NamedTuple):
    """A row of the journal: a directory that the moves in needed."""

    target: str
    mode: int


class DirectoryTimes(NamedTuple):
    """A row of the journal: the times of a touched directory before the change."""

    target: str
    atime_ns: int
    mtime_ns: int


class JournalInvalid(Exception):
    """The journal cannot be trusted: damaged, of a newer format, or with paths that leave the
    prefix."""


class Drift(Exception):
    """Some paths are neither as before nor as after: somebody else changed them. Nothing was
    touched."""

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__("changed by somebody else since: " + ", ".join(paths[:5]))
        self.paths = tuple(paths)


# --- the file system ------------------------------------------------------------------------------


def libc() -> Any:
    """The C library through ctypes, or None where ctypes is missing."""
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True)
    except (ImportError, OSError):
        return None


def exchange(first: str, second: str) -> None:
    """Two names trade places in one step (renameat2); OSError with ENOSYS where that is missing."""
    library = libc()
    if library is None or not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, "renameat2 is not available", first)
    import ctypes

    arguments = (
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(first)),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(second)),
        ctypes.c_uint(_RENAME_EXCHANGE),
    )
    if hasattr(library, "renameat2"):  # glibc 2.28, musl 1.2.4
        result = library.renameat2(*arguments)
    else:
        number = _SYS_RENAMEAT2.get(os.uname().machine)
        if number is None:
            raise OSError(errno.ENOSYS, "renameat2 is not available", first)
        result = library.syscall(ctypes.c_long(number), *arguments)
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), first, None, second)


def sync_filesystem(path: str) -> None:
    """Everything written so far on the file system of the directory `path` is on the disk
    afterwards."""
    library = libc()
    if library is None or not hasattr(library, "syncfs"):
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if library.syncfs(descriptor) != 0:
            import ctypes

            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(descriptor)


def sync_directory(path: str) -> None:
    """The names in the directory `path` are on the disk afterwards."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise _named(error, path) from error
    finally:
        os.close(descriptor)


def _named(error: OSError, path: str) -> OSError:
    """The same error with the path, which calls on open files do not say."""
    return OSError(error.errno, error.strerror, path)


def write_durably(path: str, content: bytes, mode: int = 0o600) -> None:
    """The file `path` holds `content`, or what it held before, whatever happens; on the disk at the
    end."""
    temporary = path + ".tmp"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise _named(error, temporary) from error
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path))


def read_identity(path: str) -> Optional[Identity]:
    """What lies at `path` itself, a link not followed; None when nothing does."""
    try:
        status = os.lstat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise
    if stat.S_ISDIR(status.st_mode):
        size, mtime_ns = _read_record_stamp(path)
        return Identity("d", status.st_ino, size, mtime_ns)
    kind = "o"
    if stat.S_ISLNK(status.st_mode):
        kind = "l"
    elif stat.S_ISREG(status.st_mode):
        kind = "f"
    return Identity(kind, status.st_ino, status.st_size, status.st_mtime_ns)


def _read_record_stamp(directory: str) -> Tuple[int, int]:
    # The inode number of a removed dist-info may be given to the next one; its RECORD is always
    # written anew.
    try:
        status = os.lstat(os.path.join(directory, "RECORD"))
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def is_same(first: Optional[Identity], second: Optional[Identity]) -> bool:
    """Do both identities mean the same thing on the disk?"""
    if first is None or second is None or first.kind != second.kind:
        return False
    if first.inode and second.inode and first.inode != second.inode:
        return False
    return (first.size, first.mtime_ns) == (second.size, second.mtime_ns)


def is_bytecode(path: str) -> bool:
    """Is this a cached .pyc, which any running Python may write at any time?"""
    return path.endswith(".pyc") and os.path.basename(os.path.dirname(path)) == "__pycache__"


# --- the lock -------------------------------------------------------------------------------------

# What flock answers on a file system without locks: NFS without lockd, Lustre without -o flock,
# some of FUSE.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


class Lock:
    """One changing command at a time: flock, which the kernel lets go of when its holder dies.

    Where the file system has none, a file made with O_EXCL names its holder (host, process, when
    that started). One whose holder is gone is not removed, which two could do at once and then both
    go on: it is succeeded, by a file named after its token, which again only one can make. The last
    of the chain is the lock.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.holder = None  # type: Optional[Dict[str, Any]]  # who holds it, when `take` was refused by a file
        self._descriptor = None  # type: Optional[int]
        self._chain = []  # type: List[str]

    def take(self) -> bool:
        """True: it is ours until `release` or our end. False: somebody else has it. OSError: it
        cannot be asked."""
        import fcntl

        descriptor = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            if error.errno not in _NO_LOCKS:
                raise
            return self._take_file()
        chain, holder = self._read_chain()
        if chain and not is_gone(holder):  # a host that has no flock on the same file system
            os.close(descriptor)
            self.holder = holder
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give it back; without effect when it is not ours."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        for name in self._chain:  # the first one first: from then on the others mean nothing
            _unlink_if_there(name)
        self._descriptor, self._chain = None, []

    def describe_holder(self) -> str:
        """Who holds it, as far as that is known, and how to go on when that is not true; begins
        with a space."""
        if self.holder is None:
            return ""
        who = "process %s on %s" % (self.holder.get("pid", "?"), self.holder.get("host", "?"))
        return " (%s; if that has ended: rm %s.held*)" % (who, self.path)

    def _take_file(self) -> bool:
        while True:
            chain, holder = self._read_chain()
            if chain and not is_gone(holder):
                self.holder = holder
                return False
            name = self.path + ".held"
            if chain and holder is not None:
                name += "-" + str(holder["token"])
            try:
                descriptor = os.open(
                    name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600
                )
            except FileExistsError:
                continue
            with os.fdopen(descriptor, "w") as stream:
                json.dump(describe_process(), stream)
                stream.flush()
                os.fsync(stream.fileno())
            self._chain, _ = self._read_chain()
            if self._chain and self._chain[-1] == name:
                return True
            self._chain = []  # what we wanted to succeed was given back meanwhile
            _unlink_if_there(name)

    def _read_chain(self) -> Tuple[List[str], Optional[Dict[str, Any]]]:
        """The files that hold the lock one after the other, and the holder that the last of them
        names."""
        chain = []  # type: List[str]
        holder = None  # type: Optional[Dict[str, Any]]
        name = self.path + ".held"
        while name not in chain:
            try:
                found = json.loads(read_regular_file(name).decode("utf-8"))
                if not re.match("^[0-9a-f]{16}$", found["token"]):
                    raise ValueError(name)
            except FileNotFoundError:
                break
            except (ValueError, KeyError, TypeError, RecursionError, JournalInvalid):
                return chain + [name], {}  # somebody is writing it, or it is not one of ours
            chain.append(name)
            holder = found
            name = self.path + ".held-" + found["token"]
        return chain, holder


def describe_process() -> Dict[str, Any]:
    """This process, so that any host can find out whether it still runs, or that it cannot find
    out."""
    return {
        "token": "%016x" % int.from_bytes(os.urandom(8), "big"),
        "host": os.uname().nodename,
        "machine": _read_line("/etc/machine-id"),
        "boot": _read_line("/proc/sys/kernel/random/boot_id"),
        "namespace": _read_link("/proc/self/ns/pid"),
        "pid": os.getpid(),
        "started": read_start(os.getpid()),
    }


def is_gone(holder: Optional[Dict[str, Any]]) -> bool:
    """Has that process certainly ended? Where nobody can know (another host, another container) the
    answer is no."""
    here = describe_process()
    if not holder or any(holder.get(key) != here[key] for key in ("host", "machine")):
        return False
    if holder.get("boot") != here["boot"]:
        return bool(here["machine"] and here["boot"] and holder.get("boot"))
    if holder.get("namespace") != here["namespace"] or not isinstance(holder.get("pid"), int):
        return False
    return read_start(holder["pid"]) != holder.get("started")


def read_start(pid: int) -> Optional[str]:
    """When a process started, in the kernel's own measure ("" where that is not known), or None:
    there is none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    status = _read_line("/proc/%d/stat" % pid)
    return status.rpartition(")")[2].split()[19] if status else ""


def _read_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.readline().strip()
    except OSError:
        return ""


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _unlink_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


# --- reading a journal ----------------------------------------------------------------------------


def read_regular_file(path: str) -> bytes:
    """The bytes of a regular file; JournalInvalid for anything else in its place: a FIFO would be
    waited for."""
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISREG(mode):
                return stream.read()
    raise JournalInvalid(
        "%s is %s and not a regular file" % (path, _KINDS.get(stat.S_IFMT(mode), "something else"))
    )


def read_journal(path: str) -> Document:
    """The document of a journal file; JournalInvalid when it is not a journal of ours."""
    checksum, _, body = read_regular_file(path).partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode("ascii") != checksum:
        raise JournalInvalid("%s is damaged: its checksum does not fit" % path)
    try:
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise JournalInvalid("%s is not JSON: %s" % (path, error)) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise JournalInvalid(
            "%s has another format than %d: a newer safe-install wrote it" % (path, FORMAT)
        )
    return document


_MAX_ID = 2**32 - 1
_MAX_INODE = 2**64 - 1
_MAX_NUMBER = 2**63 - 1  # of times, and sizes


def check_identity(row: Any) -> Identity:
    """A row of the journal, [kind, inode, size, mtime_ns]; ValueError for anything else."""
    if not isinstance(row, list) or len(row) != 4 or row[0] not in ("f", "d", "l", "o"):
        raise ValueError("%r is not the identity of a file" % (row,))
    kind, inode, size, mtime_ns = row
    return Identity(kind, _number(inode, _MAX_INODE), _number(size), _number(mtime_ns))


def _number(value: Any, most: int = _MAX_NUMBER) -> int:
    least = -_MAX_NUMBER if most == _MAX_NUMBER else 0  # times before 1970
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError("%r is not a number from %d to %d" % (value, least, most))
    return value


def _split(relative: Any) -> List[str]:
    if not isinstance(relative, str) or "\0" in relative:
        raise ValueError("%r is not a path" % (relative,))
    parts = relative.split(os.sep)
    # UnicodeEncodeError for half of a character
    if any(len(os.fsencode(part)) > 255 for part in parts):
        raise ValueError("a name in %r... is longer than a file system has" % relative[:80])
    return parts


def is_inside(path: str, directory: str) -> bool:
    """Is `path` strictly below `directory`, compared by component?"""
    return path.startswith(directory.rstrip(os.sep) + os.sep)


class Undo:
    """One journal, its paths checked against the prefix: a planted journal moves nothing outside of
    it."""

    def __init__(self, prefix: str, document: Document, written: Optional[int] = None) -> None:
        """`written`: when the journal was, in nanoseconds; what others have installed since is
        looked for then."""
        self.prefix = os.path.realpath(prefix)
        self._written = written
        self.state = os.path.join(self.prefix, STATE_DIRECTORY)
        self._real_parents = {}  # type: Dict[str, str]
        self.exchanges = []  # type: List[Exchange]
        self.outs = []  # type: List[MoveOut]
        self.rmdirs = []  # type: List[RemovedDirectory]
        self.mkdirs = []  # type: List[MadeDirectory]
        self.ins = []  # type: List[MoveIn]
        self.times = []  # type: List[DirectoryTimes]
        try:
            self._read(document)
        except (KeyError, TypeError, ValueError) as error:
            raise JournalInvalid(
                "the journal cannot be read: %s %s" % (type(error).__name__, error)
            ) from error
        self.is_copy = False
        if written is not None:
            copy = Copy(self, document)
            copied = copy.recognize()
            if copied is not None:
                self.is_copy = True
                self.exchanges, self.outs, self.ins = copied
                self._written = written if copy.has_times else None

    def _read(self, document: Document) -> None:
        self._read_moves(document)
        self._read_directories(document)
        if not isinstance(document.get("command", []), list):
            raise ValueError("the command is not a list")
        if not TRANSACTION_NAME.match("txn-%s" % document.get("id")):
            raise ValueError("%r is not the name of a transaction" % document.get("id"))

    def _read_moves(self, document: Document) -> None:
        for target, slot, old, new in document["exchanges"]:
            pair = Exchange(
                self._target(target), self._slot(slot), check_identity(old), check_identity(new)
            )
            self.exchanges.append(pair)
        for target, slot, old in document["outs"]:
            self.outs.append(MoveOut(self._target(target), self._slot(slot), check_identity(old)))
        for slot, target, new in document["ins"]:
            self.ins.append(MoveIn(self._slot(slot), self._target(target), check_identity(new)))

    def _read_directories(self, document: Document) -> None:
        for target, mode, uid, gid in document["rmdirs"]:
            path, owner, group = self._target(target), _number(uid, _MAX_ID), _number(gid, _MAX_ID)
            self.rmdirs.append(RemovedDirectory(path, _number(mode, 0o7777), owner, group))
        for target, mode in document["mkdirs"]:
            self.mkdirs.append(MadeDirectory(self._target(target), _number(mode, 0o7777)))
        for target, atime_ns, mtime_ns in document["times"]:
            self.times.append(
                DirectoryTimes(self._target(target), _number(atime_ns), _number(mtime_ns))
            )

    def _target(self, relative: str) -> str:
        parts = _split(relative)
        if any(part in _NO_NAMES for part in parts) or parts[0] == STATE_DIRECTORY:
            raise JournalInvalid(
                "the journal names a path that is not in the environment: %r" % relative
            )
        return self._check_parent(os.path.join(self.prefix, relative), self.prefix, relative)

    def _slot(self, relative: str) -> str:
        parts = _split(relative)
        bad = any(part in _NO_NAMES for part in parts) or len(parts) < 3
        if bad or not TRANSACTION_NAME.match(parts[0]) or parts[1] not in ("stage", "stash"):
            raise JournalInvalid(
                "the journal names a path that is not in a transaction: %r" % relative
            )
        return self._check_parent(os.path.join(self.state, relative), self.state, relative)

    def _check_parent(self, path: str, root: str, relative: str) -> str:
        parent = os.path.dirname(path)
        real = self._real_parents.get(parent)
        if real is None:
            real = self._real_parents[parent] = os.path.realpath(parent)
        if real != parent or (real != root and not is_inside(real, root)):
            raise JournalInvalid(
                "the journal names a path that leads elsewhere through a link: %r" % relative
            )
        return path

    # --- looking ----------------------------------------------------------------------------------

    def find_drift(self) -> List[str]:
        """Every path that is neither in its state before nor in its state after."""
        placed = {move.target: move.new for move in self.ins}
        before = {move.target: move.old for move in self.outs}
        made = {directory.target for directory in self.mkdirs}
        removed = {directory.target for directory in self.rmdirs}
        drift = []  # type: List[str]
        for pair in self.exchanges:
            if not _exchange_is_legal(pair):
                drift.append(pair.target)
        for leaving in self.outs:
            if not _move_is_legal(leaving.target, leaving.slot, leaving.old, placed, made):
                drift.append(leaving.target)
        for coming in self.ins:
            if not _move_is_legal(coming.target, coming.slot, coming.new, before, removed):
                drift.append(coming.target)
        drift.extend(path for path in removed if not _is_directory_or(path, placed))
        drift.extend(path for path in made if not _is_directory_or(path, before))
        drift.extend(self._find_strangers(made, placed))
        drift.extend(self._find_installed_since())
        return sorted(set(drift))

    def _find_installed_since(self) -> List[str]:
        """Files of distributions that another installer has finished since, in directories that
        would go away."""
        going = [pair.target for pair in self.exchanges if pair.new.kind == "d"]
        going += [move.target for move in self.ins if move.new.kind == "d"]
        if self._written is None or not going:
            return []
        touched = {pair.target for pair in self.exchanges} | {move.target for move in self.ins}
        sites = {os.path.dirname(path) for path in touched if path.endswith(".dist-info")}
        found = []  # type: List[str]
        for folder in _list_dist_infos(sites):
            record = os.path.join(folder, "RECORD")
            if folder in touched or not self._is_newer(record):
                continue
            for row, _ in _read_record(record):
                path = os.path.join(os.path.dirname(folder), row)
                if any(is_inside(path, directory) for directory in going) and not is_bytecode(path):
                    found.append(path)
        return [path for path in found if os.path.lexists(path)]

    def _is_newer(self, path: str) -> bool:
        """Was it written after the journal? Of a copy only its own time tells: its inode is new."""
        try:
            status = os.lstat(path)
        except OSError:
            return False
        moment = status.st_mtime_ns if self.is_copy else status.st_ctime_ns
        return self._written is not None and moment > self._written

    def _find_strangers(self, made: Set[str], placed: Dict[str, Identity]) -> List[str]:
        # A file that somebody put into a directory that we made would be in the way of its removal.
        strangers = []  # type: List[str]
        known = {pair.target for pair in self.exchanges}
        for directory in made:
            if not os.path.isdir(directory) or os.path.islink(directory):
                continue
            for name in os.listdir(directory):
                path = os.path.join(directory, name)
                if path in made or path in placed or path in known or _holds_only_bytecode(path):
                    continue
                strangers.append(path)
        return strangers

    def find_missing_before(self) -> List[str]:
        """Every path that is not in its state before: what stands against beginning the swap."""
        before = {move.target for move in self.outs}
        removed = {directory.target for directory in self.rmdirs}
        wrong = []  # type: List[str]
        for pair in self.exchanges:
            if not (
                is_same(read_identity(pair.target), pair.old)
                and is_same(read_identity(pair.slot), pair.new)
            ):
                wrong.append(pair.target)
        for leaving in self.outs:
            if not is_same(read_identity(leaving.target), leaving.old) or os.path.lexists(
                leaving.slot
            ):
                wrong.append(leaving.target)
        for coming in self.ins:
            will_be_free = coming.target in before or coming.target in removed
            is_occupied = os.path.lexists(coming.target) and not will_be_free
            if is_occupied or not is_same(read_identity(coming.slot), coming.new):
                wrong.append(coming.target)
        wrong.extend(path for path in removed if not os.path.isdir(path))
        for directory in self.mkdirs:
            if os.path.lexists(directory.target) and directory.target not in before:
                wrong.append(directory.target)
        return sorted(set(wrong))

    # --- doing ------------------------------------------------------------------------------------

    def run(self) -> None:
        """Put everything back, in the reverse order of the swap. Drift: nothing is touched."""
        drift = self.find_drift()
        if drift:
            raise Drift(drift)
        for coming in reversed(self.ins):
            if not os.path.lexists(coming.slot) and is_same(
                read_identity(coming.target), coming.new
            ):
                os.rename(coming.target, coming.slot)
        for made in reversed(self.mkdirs):
            if os.path.isdir(made.target) and not os.path.islink(made.target):
                _remove_bytecode(made.target)
                os.rmdir(made.target)
        sync_filesystem(self.state)
        for removed in reversed(self.rmdirs):
            _make_directory_again(removed)
        for leaving in reversed(self.outs):
            if is_same(read_identity(leaving.slot), leaving.old):
                os.rename(leaving.slot, leaving.target)
        for pair in reversed(self.exchanges):
            if is_same(read_identity(pair.target), pair.new):
                exchange(pair.target, pair.slot)
        self.restore_times()
        sync_filesystem(self.state)

    def restore_times(self) -> None:
        """Give every touched directory the times that it had."""
        for row in self.times:
            try:
                os.utime(row.target, ns=(row.atime_ns, row.mtime_ns))
            except OSError as error:
                # A folder that is gone, or of another user: its time stops no recovery.
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EPERM):
                    raise


def _read_record(path: str) -> List[Tuple[str, str]]:
    """(path relative to site-packages, hash as written) of each row of a RECORD; none where it
    cannot be read."""
    try:
        text = read_regular_file(path).decode("utf-8", "surrogateescape")
        # Not splitlines(), which also ends a line where a name holds a form feed.
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except (OSError, JournalInvalid, csv.Error):
        return []
    return [(os.path.normpath(row[0]), row[1] if len(row) > 1 else "") for row in rows]


def _list_dist_infos(sites: Set[str]) -> List[str]:
    """The dist-info folders in these directories."""
    found = []  # type: List[str]
    for site in sites:
        names = os.listdir(site) if os.path.isdir(site) else []
        found += [os.path.join(site, name) for name in names if name.endswith(".dist-info")]
    return found


class _CopiedExchange(NamedTuple):
    """An exchange in a copied environment: what lies in its two places now."""

    row: Exchange
    here: Identity  # at the target
    there: Identity  # at the slot
    was_exchanged: Optional[bool]  # None: size and time do not say


class Copy:
    """Was the whole environment copied (cp -a, tar, a layer of an image) when its change was half
    done?

    Then no inode number is as in the journal. Where an `out` or an `in` is now, its slot shows. Of
    an exchange size and time show which of the two is where, or the hashes in the RECORDs of the
    old and the new distribution.
    """

    def __init__(self, undo: Undo, document: Document) -> None:
        self.undo = undo
        # The inode number of the transaction's directory; older journals do not have it.
        facts = document.get("facts")
        self.number = facts.get("directory") if isinstance(facts, dict) else None
        self.directory = os.path.join(undo.state, "txn-%s" % document.get("id"))
        moves = []  # type: List[Tuple[Tuple[str, str], Identity]]  # two places, what is in one of them
        moves += [((move.target, move.slot), move.old) for move in undo.outs]
        moves += [((move.slot, move.target), move.new) for move in undo.ins]
        for pair in undo.exchanges:
            places = (pair.target, pair.slot)
            moves += [(places, pair.old), (places, pair.new)]
        self.moves = moves
        self.has_times = self.number is None or self._keeps_times()

    def _keeps_times(self) -> bool:
        """Has any object the time that it had? Some copies have new times throughout."""
        for places, identity in self.moves:
            found = [read_identity(path) for path in places] if identity.mtime_ns else []
            if any(is_copy_of(now, identity) for now in found):
                return True
        return False

    def recognize(self) -> Optional[Tuple[List[Exchange], List[MoveOut], List[MoveIn]]]:
        """The exchanges, outs and ins with the identities that their files have now; None: it is no
        copy."""
        here = read_identity(self.directory)
        if here is not None and here.inode == self.number:
            return None
        known = [(places, identity) for places, identity in self.moves if identity.inode]
        if self.number is None and not known:
            return None
        if any(self._is_original(places, identity) for places, identity in known):
            return None
        exchanges = self._find_exchanged()
        if exchanges is None:
            return None
        outs = []  # type: List[MoveOut]
        for leaving in self.undo.outs:
            now = self._now(leaving.slot, leaving.target, leaving.old)
            if now is None:
                return None
            outs.append(MoveOut(leaving.target, leaving.slot, now))
        ins = []  # type: List[MoveIn]
        for coming in self.undo.ins:
            now = self._now(coming.slot, coming.target, coming.new)
            if now is None:
                return None
            ins.append(MoveIn(coming.slot, coming.target, now))
        return exchanges, outs, ins

    def _find_exchanged(self) -> Optional[List[Exchange]]:
        """The exchanges, as they are now; None where one of them is something else."""
        copied = []  # type: List[_CopiedExchange]
        for row in self.undo.exchanges:
            found = self._look_at(row)
            if found is None:
                return None
            copied.append(found)
        olds, news = self._find_records(copied)
        exchanges = []  # type: List[Exchange]
        for found in copied:
            was_exchanged = found.was_exchanged
            if was_exchanged is None:
                was_exchanged = self._was_exchanged_by_content(found.row, olds, news)
            if was_exchanged is None:
                return None
            old, new = (found.there, found.here) if was_exchanged else (found.here, found.there)
            exchanges.append(Exchange(found.row.target, found.row.slot, old, new))
        return exchanges

    def _look_at(self, row: Exchange) -> Optional[_CopiedExchange]:
        """None where the two places hold something else."""
        here, there = read_identity(row.target), read_identity(row.slot)
        if here is None or there is None:
            return None
        is_before = self._is_like(here, row.old) and self._is_like(there, row.new)
        is_after = self._is_like(here, row.new) and self._is_like(there, row.old)
        if is_before and is_after:
            return _CopiedExchange(row, here, there, None)
        return _CopiedExchange(row, here, there, is_after) if is_before or is_after else None

    def _was_exchanged_by_content(
        self, row: Exchange, olds: Sequence[Tuple[str, str]], news: Sequence[Tuple[str, str]]
    ) -> Optional[bool]:
        """None where the contents are neither those of before nor those of after."""
        target, slot = row.target, row.slot
        holds_old = self._holds(target, target, olds) or self._holds(slot, target, news)
        holds_new = self._holds(slot, target, olds) or self._holds(target, target, news)
        if not holds_old and not holds_new:
            return None
        return not holds_old  # both: they hold the same

    def _find_records(
        self, copied: Sequence[_CopiedExchange]
    ) -> Tuple[List[Tuple[str, str]], List[Tuple[str, str]]]:
        """(where it belongs, where it is now) of the metadata of the old and of the new
        distributions."""
        olds = [(move.target, self._place(move.slot, move.target)) for move in self.undo.outs]
        news = [(move.target, self._place(move.slot, move.target)) for move in self.undo.ins]
        for found in copied:
            target, slot = found.row.target, found.row.slot
            if found.was_exchanged is not None:
                olds.append((target, slot if found.was_exchanged else target))
                news.append((target, target if found.was_exchanged else slot))
        return olds, news

    def _is_original(self, places: Sequence[str], identity: Identity) -> bool:
        found = [read_identity(path) for path in places]
        return any(
            now is not None and (now.kind, now.inode) == (identity.kind, identity.inode)
            for now in found
        )

    def _now(self, slot: str, target: str, identity: Identity) -> Optional[Identity]:
        """What is at the slot, else at the target, if it is a copy of what `identity` describes."""
        now = read_identity(slot) or read_identity(target)
        return now if self._is_like(now, identity) else None

    def _is_like(self, now: Optional[Identity], before: Identity) -> bool:
        """As `is_copy_of`; where the copy has new times throughout (cp -r), kind and size have to
        do."""
        if self.has_times:
            return is_copy_of(now, before)
        return now is not None and (now.kind, now.size) == (before.kind, before.size)

    def _place(self, slot: str, target: str) -> str:
        return slot if os.path.lexists(slot) else target

    def _holds(self, path: str, target: str, moved: Sequence[Tuple[str, str]]) -> bool:
        """Has `path`, whose place is `target`, the content that RECORDs say? `moved`: (target,
        where it is now)."""
        is_known = False
        for folder, place in moved:
            if folder.endswith(".dist-info/RECORD"):
                folder = os.path.dirname(folder)
            elif folder.endswith(".dist-info"):
                place = os.path.join(place, "RECORD")
            else:
                continue
            for row, written in _read_record(place):
                listed = os.path.join(os.path.dirname(folder), row)
                if not written or (listed != target and not is_inside(listed, target)):
                    continue
                is_known = True
                if not _has_hash(path + listed[len(target) :], written):
                    return False
        return is_known


def is_copy_of(now: Optional[Identity], before: Identity) -> bool:
    """Is it the same but for its inode number, and for what copies lose of a time?

    Archives and the layers of images hold whole seconds, some tools microseconds.
    """
    if now is None or now.kind != before.kind or now.size != before.size:
        return False
    return any(now.mtime_ns == before.mtime_ns // unit * unit for unit in (1, 1000, 10**9))


def _has_hash(path: str, written: str) -> bool:
    name, _, encoded = written.partition("=")
    try:
        digest = hashlib.new(name, read_regular_file(path)).digest()
    except (OSError, ValueError, JournalInvalid):
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii") == encoded


def _exchange_is_legal(row: Exchange) -> bool:
    here, there = read_identity(row.target), read_identity(row.slot)
    is_before = is_same(here, row.old) and is_same(there, row.new)
    is_after = is_same(here, row.new) and is_same(there, row.old)
    return is_before or is_after


def _move_is_legal(
    target: str, slot: str, identity: Identity, others: Dict[str, Identity], directories: Set[str]
) -> bool:
    """Is what a row moves in one of its two places, and is the target free where it is at the slot?

    Free is a target, too, that holds what another row has there (`others`), or a directory of the
    change (`directories`). Bytecode counts as nothing: any Python may have written it.
    """
    at_target, at_slot = read_identity(target), read_identity(slot)
    if is_same(at_target, identity) and at_slot is None:
        return True
    if not is_same(at_slot, identity):
        return False
    if at_target is None or is_same(at_target, others.get(target)) or is_bytecode(target):
        return True
    return target in directories and at_target.kind == "d"


def _is_directory_or(path: str, others: Dict[str, Identity]) -> bool:
    now = read_identity(path)
    return now is None or now.kind == "d" or is_same(now, others.get(path))


def _holds_only_bytecode(path: str) -> bool:
    if os.path.basename(path) != "__pycache__" or os.path.islink(path) or not os.path.isdir(path):
        return False
    return all(name.endswith(".pyc") for name in os.listdir(path))


def _remove_bytecode(directory: str) -> None:
    cache = os.path.join(directory, "__pycache__")
    names = os.listdir(cache) if _holds_only_bytecode(cache) else []
    for name in names:
        os.unlink(os.path.join(cache, name))
    if os.path.isdir(cache) and not os.listdir(cache):
        os.rmdir(cache)
    if os.path.basename(directory) == "__pycache__" and _holds_only_bytecode(directory):
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))


def _make_directory_again(row: RemovedDirectory) -> None:
    if not os.path.isdir(row.target):
        os.mkdir(row.target)
    status = os.lstat(row.target)
    if (status.st_uid, status.st_gid) != (row.uid, row.gid):
        os.chown(row.target, row.uid, row.gid)
    if stat.S_IMODE(status.st_mode) != row.mode:
        os.chmod(row.target, row.mode)


# --- transactions on the disk ---------------------------------------------------------------------


def list_transactions(prefix: str) -> List[Tuple[str, str]]:
    """(name of the transaction directory, "journal" | "committed" | "unfinished"), newest first."""
    state = os.path.join(os.path.realpath(prefix), STATE_DIRECTORY)
    try:
        names = os.listdir(state)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for name in sorted(filter(TRANSACTION_NAME.match, names), reverse=True):
        directory = os.path.join(state, name)
        if os.path.lexists(os.path.join(directory, JOURNAL)):
            found.append((name, "journal"))
        elif os.path.lexists(os.path.join(directory, COMMITTED)):
            found.append((name, "committed"))
        else:
            found.append((name, "unfinished"))
    return found


def undo_journal(prefix: str, name: str) -> Document:
    """Undo the transaction directory `name`, then remove its journal, durably. Its document is
    returned."""
    directory = os.path.join(os.path.realpath(prefix), STATE_DIRECTORY, name)
    journal = os.path.join(directory, JOURNAL)
    document = read_journal(journal)
    Undo(prefix, document, os.lstat(journal).st_mtime_ns).run()
    os.unlink(journal)
    sync_directory(directory)
    return document


def discard(path: str) -> Optional[str]:
    """Remove a transaction directory: by one rename out of sight, then file by file. What failed,
    or None.

    It has no journal any more.
    """
    parent, name = os.path.split(path)
    trash = path
    if not name.startswith("trash-"):
        trash = os.path.join(parent, "trash-" + name)
        while os.path.lexists(trash):
            trash += "-"
        try:
            os.rename(path, trash)
        except OSError as error:
            if error.errno != errno.EXDEV:
                return str(error)
            # A directory of a lower layer of overlayfs cannot be renamed. Without this file it is
            # one that has changed nothing, so that a deletion that is killed is finished by the
            # next recovery.
            _unlink_if_there(os.path.join(path, COMMITTED))
            trash = path
    problem = _remove_tree(trash)
    if problem is not None:
        # A directory without the right to write (it moved along as it was) hides what it holds.
        # Files keep their
        # mode: a hard link shares it with another environment, a symbolic link with its target.
        _allow_writing(trash)
        for folder, names, _ in os.walk(trash):
            for name in names:
                _allow_writing(os.path.join(folder, name))
        problem = _remove_tree(trash)
    return problem if os.path.lexists(trash) else None


def _remove_tree(path: str) -> Optional[str]:
    problems = []  # type: List[str]
    if os.path.islink(path) or not os.path.isdir(path):
        try:
            _unlink_if_there(path)
        except OSError as error:
            return str(error)
        return None
    shutil.rmtree(path, onerror=lambda function, failed, info: problems.append(str(info[1])))
    return problems[0] if problems else None


def _allow_writing(directory: str) -> None:
    if os.path.islink(directory):
        return
    try:
        os.chmod(directory, 0o700)
    except OSError:
        pass  # what then cannot be removed is reported


def recover(prefix: str) -> List[Tuple[str, str, str]]:
    """Undo or clean everything unfinished: (transaction id, "rolled-back" | "cleaned" | "finished",
    detail).

    The caller holds the lock. Raises Drift or JournalInvalid before touching anything of that
    transaction.
    """
    done = []
    state = os.path.join(os.path.realpath(prefix), STATE_DIRECTORY)
    for name, what in list_transactions(prefix):
        identifier = name[len("txn-") :]
        if what == "journal":
            document = undo_journal(prefix, name)
            command = " ".join(str(part) for part in document.get("command", ()))
            done.append((identifier, "rolled-back", "undone: " + command))
        if what != "committed":
            problem = discard(os.path.join(state, name))
            if what == "unfinished":
                done.append((identifier, "cleaned", problem or "had not changed anything"))
    for name in sorted(os.listdir(state)) if os.path.isdir(state) else []:
        if name.startswith("trash-"):
            problem = discard(os.path.join(state, name))
            done.append(
                (name[len("trash-") :], "finished", problem or "removed what was no longer needed")
            )
    return done


def main(arguments: Sequence[str]) -> int:
    """Recover the prefix named, or the one this file lies in. 0: nothing is left; 13: refused; 14:
    locked."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    prefix = os.path.realpath(arguments[0] if arguments else own)
    state = os.path.join(prefix, STATE_DIRECTORY)
    if os.path.islink(state) or not os.path.isdir(state):
        print("%s has no %s directory: nothing to recover" % (prefix, STATE_DIRECTORY))
        return 0
    if os.lstat(state).st_uid != os.geteuid():
        print("%s belongs to another user: run this as that user" % state, file=sys.stderr)
        return 13
    lock = Lock(os.path.join(state, LOCK))
    try:
        taken = lock.take()
    except OSError as error:
        print("%s cannot be locked: %s" % (prefix, error), file=sys.stderr)
        return 13
    if not taken:
        print(
            "%s is held by a running safe-install%s" % (prefix, lock.describe_holder()),
            file=sys.stderr,
        )
        return 14
    try:
        return _recover_and_print(prefix)
    finally:
        lock.release()


def _recover_and_print(prefix: str) -> int:
    try:
        for identifier, what, detail in recover(prefix):
            print("%s: %s (%s)" % (identifier, what, detail))
    except (Drift, JournalInvalid, OSError) as error:
        print("not recovered, nothing was touched: %s" % error, file=sys.stderr)
        for path in getattr(error, "paths", ()):
            print("  %s" % path, file=sys.stderr)
        return 13
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
