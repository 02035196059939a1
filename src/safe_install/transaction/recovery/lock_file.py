"""The lock of an environment: one changing command at a time."""

import errno
import json
import os
import re
import struct
import sys
from typing import Dict, List, Optional, Tuple

from safe_install.transaction.recovery.disk import read_regular_file, unlink_if_there
from safe_install.transaction.recovery.mounts import (
    is_disk,
    is_flock_local,
    is_network,
    read_mount,
)
from safe_install.transaction.recovery.rows import JournalInvalid

# Errors of flock on a file system without locks: NFS without lockd, Lustre without -o flock, some
# FUSE file systems.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
_HELD = (errno.EAGAIN, errno.EACCES)
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK)
_LOCK_OPEN_FILE = 37  # F_OFD_SETLK, which has no name in Python 3.6
# The initial process ID namespace of Linux, which containers do not have.
_OUTSIDE_OF_CONTAINERS = "pid:[4026531836]"
_ATTEMPTS = 100


Process = Dict[str, object]  # see describe_process


class Lock:
    """A lock by flock, which the kernel releases when its holder dies, or by a file.

    Where the file system has no flock, or flock has an effect on this host only, a file `lock.held`
    is created, which only one process can do. It names its holder: host, process and start time. If
    the holder is gone, the file is not removed, because two processes could do that at once and
    both go on. Instead a successor is created, a file named after the token of the first one; again
    only one process can do that. The last file of this chain is the lock.

    On a network file system both are taken, because one host may mount it with locks and another
    one without.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.holder: Optional[Process] = None  # who has it, as far as it is known
        self._is_held_by_file = False
        self._descriptor: Optional[int] = None
        self._chain: List[str] = []

    def take(self) -> bool:
        """Take the lock; is it ours? It is released by `release`, or when this process ends.
        Errors: OSError if it cannot be taken at all."""
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
            answer = take_nfs_client_lock(descriptor)
            if answer is False:
                self.holder = self._find_holder()
                return False
            is_only_one = answer is True
        return not self._is_held(is_only_one)

    def _find_holder(self) -> Optional[Process]:
        """The holder for messages if another process has flock; not every holder has a file."""
        try:
            return self._read_chain()[1]
        except OSError:
            return None

    def _is_held(self, is_only_one: bool) -> bool:
        """Is the lock held by a file? `is_only_one`: we have the lock that a holder with flock
        would have."""
        chain, holder = self._read_chain()
        if not chain or has_ended(holder, is_only_one):
            return False
        self.holder, self._is_held_by_file = holder, True
        return True

    def release(self) -> None:
        """Release the lock; without effect where it is not ours."""
        if self._chain:
            self._remove_unfinished()
        for name in self._chain:  # the first one first: without it the others have no effect
            unlink_if_there(name)
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._chain = None, []

    def _remove_unfinished(self) -> None:
        """Remove the temporary files of killed processes. A process that is writing one now tries
        again."""
        folder, start = os.path.split(self.path + ".held")
        for name in os.listdir(folder):
            if name.startswith(start) and ".new-" in name:
                unlink_if_there(os.path.join(folder, name))

    def describe_holder(self) -> str:
        """The holder, as far as it is known, and what to do if it has ended; the text begins with a
        space."""
        if self.holder is None:
            return ""
        who = "process %s on %s" % (self.holder.get("pid", "?"), self.holder.get("host", "?"))
        if not self._is_held_by_file:
            return " (%s)" % who
        return " (%s; if that has ended: rm %s.held*)" % (who, self.path)

    def _take_file(self, is_only_one: bool) -> bool:
        """Take the lock by a file; is it ours? `is_only_one`: we have flock, and no other host
        has."""
        # An attempt fails if another process was faster, or the cached names of a server's
        # folder are outdated.
        for _ in range(_ATTEMPTS):
            chain, holder = self._read_chain()
            if chain and not has_ended(holder, is_only_one):
                self.holder, self._is_held_by_file = holder, True
                return False
            name = self.path + ".held"
            if chain and holder is not None:
                name += "-" + str(holder["token"])
            me = describe_process()
            me["flock"] = is_only_one
            if not create_complete(name, json.dumps(me).encode("utf-8"), str(me["token"])):
                continue
            self._chain, _ = self._read_chain()
            if self._chain and self._chain[-1] == name:
                return True
            self._chain = []  # the lock that this file was to succeed was released meanwhile
            unlink_if_there(name)
        return False

    def _read_chain(self) -> Tuple[List[str], Optional[Process]]:
        """The chain of lock files, and the holder that the last one names."""
        chain: List[str] = []
        holder: Optional[Process] = None
        name = self.path + ".held"
        while name not in chain:
            try:
                found = json.loads(read_regular_file(name).decode("utf-8"))
                if not re.match("^[0-9a-f]{16}$", found["token"]):
                    raise ValueError(name)
            except OSError as error:
                # ESTALE: another host has removed the file.
                if error.errno not in (errno.ENOENT, errno.ESTALE):
                    raise
                break
            except (ValueError, KeyError, TypeError, RecursionError, JournalInvalid):
                return chain + [name], {}  # a process is writing it, or it is not ours
            chain.append(name)
            holder = found
            name = self.path + ".held-" + found["token"]
        return chain, holder


def take_nfs_client_lock(descriptor: int) -> Optional[bool]:
    """Take the lock that an NFS server on this machine takes when a client calls flock. True: it is
    ours; False: a client has it; None: it cannot be taken here."""
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


def create_complete(name: str, content: bytes, token: str) -> bool:
    """Create the file `name` with its whole content in one step; False if it exists. `token`:
    for the name of a temporary file."""
    temporary = "%s.new-%s" % (name, token)
    try:
        _write_new(temporary, content)
        try:
            os.link(temporary, name)
            if os.path.islink(name):  # BeeGFS may make a symbolic link instead
                os.unlink(name)
                return _create_in_place(name, content)
        except FileExistsError:
            # After a lost answer the client asks again, and the server reports its own link.
            return _has_content(name, content)
        except FileNotFoundError:
            return False  # the process that released the lock has removed the temporary file
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _create_in_place(name, content)
        return True
    finally:
        unlink_if_there(temporary)


def _has_content(name: str, content: bytes) -> bool:
    try:
        return read_regular_file(name) == content
    except (OSError, JournalInvalid):
        return False


def _create_in_place(name: str, content: bytes) -> bool:
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


def has_ended(holder: Optional[Process], is_only_one: bool) -> bool:
    """Has a holder ended? A holder that had flock has ended where we have flock now
    (`is_only_one`)."""
    had_flock = holder is not None and holder.get("flock") is True
    return is_gone(holder) or (is_only_one and had_flock)


def describe_process() -> Process:
    """A description of this process, by which any host can find out whether it still runs, or that
    this is not known."""
    return {
        "token": "%016x" % int.from_bytes(os.urandom(8), "big"),
        "host": os.uname().nodename,
        "machine": _read_line("/etc/machine-id"),
        "boot": _read_line("/proc/sys/kernel/random/boot_id"),
        "namespace": _read_link("/proc/self/ns/pid"),
        "pid": os.getpid(),
        "started": read_start(os.getpid()),
    }


def is_gone(holder: Optional[Process]) -> bool:
    """Has a process certainly ended? False if it is not known, because it runs on another host
    or in another container."""
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
    # The start time of another user's process may be hidden (mount option hidepid of /proc).
    return bool(started and holder.get("started")) and started != holder["started"]


def is_before_restart(holder: Process, here: Process) -> bool:
    """Did a process run on this machine before it was restarted? False in containers and for
    generic host names, which many machines share."""
    if not (here["machine"] and here["boot"] and holder.get("boot")):
        return False
    if str(here["host"]).partition(".")[0] in ("", "localhost", "(none)"):
        return False
    spaces = {holder.get("namespace"), here["namespace"]}
    return spaces == {_OUTSIDE_OF_CONTAINERS}


def read_start(pid: int) -> Optional[str]:
    """The start time of a process in clock ticks since boot, as a text; "" if it is not known;
    None if there is no such process."""
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
