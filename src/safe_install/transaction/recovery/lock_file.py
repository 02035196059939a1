"""The lock: one changing command at a time."""

import errno
import json
import os
import re
from typing import Any, Dict, List, Optional, Tuple

from safe_install.transaction.recovery.disk import read_regular_file, unlink_if_there
from safe_install.transaction.recovery.rows import JournalInvalid

# What flock answers on a file system without locks: NFS without lockd, Lustre without -o flock,
# some of FUSE.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
# By these options of a mount flock succeeds, and other hosts do not see it: NFS, Lustre, CIFS, GFS2.
_LOCAL_LOCKS = {
    "nolock",
    "local_lock=all",
    "local_lock=flock",
    "localflock",
    "localflocks",
    "nobrl",
}


class Lock:
    """One changing command at a time: flock, which the kernel lets go of when its holder dies.

    Where the file system has none, or keeps it to this host, a file made with O_EXCL names its
    holder (host, process, when that started). One whose holder is gone is not removed, which two
    could do at once and then both go on: it is succeeded, by a file named after its token, which
    again only one can make. The last of the chain is the lock.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.holder: Optional[Dict[str, Any]] = (
            None  # who holds it, when `take` was refused by a file
        )
        self._descriptor: Optional[int] = None
        self._chain: List[str] = []

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
        if is_flock_local(os.fstat(descriptor).st_dev, _read_text("/proc/self/mountinfo")):
            try:
                taken = self._take_file()
            except OSError:
                os.close(descriptor)
                raise
            if not taken:
                os.close(descriptor)
                return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give it back; without effect when it is not ours."""
        for name in self._chain:  # the first one first: from then on the others mean nothing
            unlink_if_there(name)
        if self._descriptor is not None:
            os.close(self._descriptor)
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
            unlink_if_there(name)

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
            except FileNotFoundError:
                break
            except (ValueError, KeyError, TypeError, RecursionError, JournalInvalid):
                return chain + [name], {}  # somebody is writing it, or it is not one of ours
            chain.append(name)
            holder = found
            name = self.path + ".held-" + found["token"]
        return chain, holder


def is_flock_local(device: int, mounts: str) -> bool:
    """Does the file system with this number keep flock to this host? `mounts`: the text of
    /proc/self/mountinfo."""
    number = "%d:%d" % (os.major(device), os.minor(device))
    for line in mounts.splitlines():
        # 36 35 98:0 /root /mount options [more] - type source options
        words = line.split()
        if words[2:3] == [number]:
            options = ",".join([*words[5:6], *words[-1:]]).split(",")
            if _LOCAL_LOCKS.intersection(options):
                return True
    return False


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


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


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
