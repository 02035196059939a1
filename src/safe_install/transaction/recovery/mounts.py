"""Reads the mount table: does a lock on a file system hold between hosts?"""

import os
from typing import NamedTuple, Tuple

# Network file systems on which flock holds between hosts, unless a mount option says otherwise.
_NETWORK = ("nfs", "nfs4", "lustre", "ceph")
# Network file systems on which flock has an effect on one host only: always, by default (BeeGFS),
# or before Linux 5.5 (SMB).
_FLOCK_OF_ONE_HOST = (
    "9p",
    "beegfs",
    "cifs",
    "fuse.blobfuse2",
    "fuse.gcsfuse",
    "fuse.goofys",
    "fuse.mount-s3",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "prl_fs",
    "smb3",
    "vboxsf",
    "virtiofs",
)
# Mount options with the same effect: NFS, Lustre, CIFS, GFS2.
_LOCAL_LOCKS = frozenset(
    ["nolock", "local_lock=all", "local_lock=flock", "localflock", "localflocks", "nobrl"]
)
# Network file systems with the same inode numbers on every host.
_SAME_INODES = (*_NETWORK, "beegfs", "fuse.glusterfs", "gpfs")
# File systems on a disk of this machine, which may serve them by NFS.
_DISKS = ("btrfs", "ext2", "ext3", "ext4", "f2fs", "xfs", "zfs")


class Mount(NamedTuple):
    """A mounted file system."""

    kind: str = ""  # "ext4", "nfs4", "fuse.sshfs"; "" if it is not known
    options: Tuple[str, ...] = ()


def find_mount(device: int, mounts: str) -> Mount:
    """The file system with this device number. `mounts`: the text of /proc/self/mountinfo."""
    number = "%d:%d" % (os.major(device), os.minor(device))
    for line in mounts.splitlines():
        # 36 35 98:0 /root /mount options [more] - type source options
        words = line.split()
        if words[2:3] == [number] and "-" in words[5:]:
            kind = words[words.index("-", 5) + 1 :][:1]
            options = ",".join([words[5], words[-1]]).split(",")
            return Mount("".join(kind), tuple(options))
    return Mount()


def read_mount(descriptor: int) -> Mount:
    """The file system of an open file."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as stream:
            mounts = stream.read()
    except OSError:
        return Mount()
    return find_mount(os.fstat(descriptor).st_dev, mounts)


def is_flock_local(mount: Mount) -> bool:
    """Does flock have an effect on this host only?"""
    return mount.kind in _FLOCK_OF_ONE_HOST or not _LOCAL_LOCKS.isdisjoint(mount.options)


def is_network(mount: Mount) -> bool:
    """Is it a network file system whose server keeps the locks of all hosts?"""
    return mount.kind in _NETWORK


def has_one_inode_everywhere(mount: Mount) -> bool:
    """Is it a network file system with the same inode numbers on every host?"""
    return mount.kind in _SAME_INODES


def is_disk(mount: Mount) -> bool:
    """Is it on a disk of this machine, which may serve it by NFS?"""
    return mount.kind in _DISKS
