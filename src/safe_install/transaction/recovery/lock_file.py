"""The lock: one changing command at a time."""

import errno
import json
import os
import re
import struct
import sys
from typing import Any, Dict, List, Optional, Tuple

from safe_install.transaction.recovery.disk import read_regular_file, unlink_if_there
from safe_install.transaction.recovery.mounts import (
    is_disk,
    is_flock_local,
    is_network,
    read_mount,
)
from safe_install.transaction.recovery.rows import JournalInvalid

# What flock answers on a file system without locks: NFS without lockd, Lustre without -o flock,
# some of FUSE.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
_HELD = (errno.EAGAIN, errno.EACCES)
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK)
_LOCK_OPEN_FILE = 37  # F_OFD_SETLK, which Python 3.6 has no name for
# The first process id namespace of every Linux: no container.
_OUTSIDE_OF_CONTAINERS = "pid:[4026531836]"
_ATTEMPTS = 100


class Lock:
    """One changing command at a time: flock, which the kernel lets go of when its holder dies.

    Where the file system has none, or keeps it to this host, a file that only one can make names
    its holder (host, process, when that started). One whose holder is gone is not removed, which
    two could do at once and then both go on: it is succeeded, by a file named after its token,
    which again only one can make. The last of the chain is the lock.

    On the network both are taken, so that hosts that mount it with locks and hosts that mount it
    without them see each other.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.holder: Optional[Dict[str, Any]] = None  # who has it, as far as that is known
        self._is_held_by_file = False
        self._descriptor: Optional[int] = None
        self._chain: List[str] = []

    def take(self) -> bool:
        """True: it is ours until `release` or our end. False: somebody else has it. OSError: it
        cannot be asked."""
        descriptor = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        taken = False
        try:
            taken = self._take(descriptor)
        finally:
            if taken:
                self._descriptor = descriptor
            else:
                os.close(descriptor)
        return taken

    def _take(self, descriptor: int) -> bool:
        import fcntl

        self._is_held_by_file = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                self.holder = self._find_holder()
                return False
            if error.errno not in _NO_LOCKS:
                raise
            return self._take_file(is_only_one=False)
        mount = read_mount(descriptor)
        if is_flock_local(mount):
            return self._take_file(is_only_one=False)
        if is_network(mount):
            return self._take_file(is_only_one=True)
        is_only_one = False
        if is_disk(mount):
            answer = take_before_clients(descriptor)
            if answer is False:
                self.holder = self._find_holder()
                return False
            is_only_one = answer is True
        return not self._is_held(is_only_one)

    def _find_holder(self) -> Optional[Dict[str, Any]]:
        """For people, where another one has flock; not all leave a file."""
        try:
            return self._read_chain()[1]
        except OSError:
            return None

    def _is_held(self, is_only_one: bool) -> bool:
        """By a file. `is_only_one`: we have the lock that a holder with flock would have."""
        chain, holder = self._read_chain()
        if not chain or is_over(holder, is_only_one):
            return False
        self.holder, self._is_held_by_file = holder, True
        return True

    def release(self) -> None:
        """Give it back; without effect when it is not ours."""
        if self._chain:
            self._remove_unfinished()
        for name in self._chain:  # the first one first: from then on the others mean nothing
            unlink_if_there(name)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._chain = None, []

    def _remove_unfinished(self) -> None:
        """What those left that were killed while they wrote; who is writing now begins anew."""
        folder, start = os.path.split(self.path + ".held")
        for name in os.listdir(folder):
            if name.startswith(start) and ".new-" in name:
                unlink_if_there(os.path.join(folder, name))

    def describe_holder(self) -> str:
        """Who holds it, as far as that is known, and how to go on when that is not true; begins
        with a space."""
        if self.holder is None:
            return ""
        who = "process %s on %s" % (self.holder.get("pid", "?"), self.holder.get("host", "?"))
        if not self._is_held_by_file:
            return " (%s)" % who
        return " (%s; if that has ended: rm %s.held*)" % (who, self.path)

    def _take_file(self, is_only_one: bool) -> bool:
        """`is_only_one`: we have flock, and no other host has."""
        # Each time somebody else was faster, or what this host sees of a server's folder is old.
        for _ in range(_ATTEMPTS):
            chain, holder = self._read_chain()
            if chain and not is_over(holder, is_only_one):
                self.holder, self._is_held_by_file = holder, True
                return False
            name = self.path + ".held"
            if chain and holder is not None:
                name += "-" + str(holder["token"])
            me = describe_process()
            me["flock"] = is_only_one
            if not make_whole(name, json.dumps(me).encode("utf-8"), me["token"]):
                continue
            self._chain, _ = self._read_chain()
            if self._chain and self._chain[-1] == name:
                return True
            self._chain = []  # what we wanted to succeed was given back meanwhile
            unlink_if_there(name)
        return False

    def _read_chain(self) -> Tuple[List[str], Optional[Dict[str, Any]]]:
        """The files that hold the lock one after the other, and the holder that the last of them
        names."""
        chain: List[str] = []
        holder: Optional[Dict[str, Any]] = None
        name = self.path + ".held"
        while name not in chain:
            try:
                found = json.loads(read_regular_file(name).decode("utf-8"))
                if not re.match("^[0-9a-f]{16}$", found["token"]):
                    raise ValueError(name)
            except OSError as error:
                # A server says ESTALE of a file that another host has removed.
                if error.errno not in (errno.ENOENT, errno.ESTALE):
                    raise
                break
            except (ValueError, KeyError, TypeError, RecursionError, JournalInvalid):
                return chain + [name], {}  # somebody is writing it, or it is not one of ours
            chain.append(name)
            holder = found
            name = self.path + ".held-" + found["token"]
        return chain, holder


def take_before_clients(descriptor: int) -> Optional[bool]:
    """The lock that an NFS server on this machine takes for its clients' flock. True: it is ours;
    False: a client has it; None: it cannot be asked."""
    import fcntl

    if not sys.platform.startswith("linux") or sys.maxsize < 2**32:
        return None
    # struct flock of 64-bit Linux: kind, whence, start, length, process id
    whole_file = struct.pack("@hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        fcntl.fcntl(descriptor, _LOCK_OPEN_FILE, whole_file)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


def make_whole(name: str, content: bytes, token: str) -> bool:
    """The file `name`, which has its content from its first moment on. False: there is one."""
    temporary = "%s.new-%s" % (name, token)
    try:
        _write_new(temporary, content)
        try:
            os.link(temporary, name)
            if os.path.islink(name):  # BeeGFS can be told to make these instead
                os.unlink(name)
                return _make_in_place(name, content)
        except FileExistsError:
            # Asked once more after a lost answer, a server says this of a link that it has made.
            return _holds(name, content)
        except FileNotFoundError:
            return False  # who gave the lock back has removed it
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _make_in_place(name, content)
        return True
    finally:
        unlink_if_there(temporary)


def _holds(name: str, content: bytes) -> bool:
    try:
        return read_regular_file(name) == content
    except (OSError, JournalInvalid):
        return False


def _make_in_place(name: str, content: bytes) -> bool:
    try:
        _write_new(name, content)
    except FileExistsError:
        return False
    return True


def _write_new(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def is_over(holder: Optional[Dict[str, Any]], is_only_one: bool) -> bool:
    """Has that holder ended? One that had flock has, where we have it now."""
    had_flock = holder is not None and holder.get("flock") is True
    return is_gone(holder) or (is_only_one and had_flock)


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
        return is_before_restart(holder, here)
    pid = holder.get("pid")
    if holder.get("namespace") != here["namespace"] or not isinstance(pid, int):
        return False
    if not 0 < pid < 2**31:
        return False
    started = read_start(pid)
    if started is None:
        return True
    # Of other users' processes a machine may hide it (hidepid of /proc).
    return bool(started and holder.get("started")) and started != holder["started"]


def is_before_restart(holder: Dict[str, Any], here: Dict[str, Any]) -> bool:
    """Is it this machine, and was it started anew since? The names of a container, and those that
    come with an image, are those of many machines."""
    if not (here["machine"] and here["boot"] and holder.get("boot")):
        return False
    if here["host"].partition(".")[0] in ("", "localhost", "(none)"):
        return False
    spaces = {holder.get("namespace"), here["namespace"]}
    return spaces == {_OUTSIDE_OF_CONTAINERS}


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
