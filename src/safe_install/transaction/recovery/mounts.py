"""Does a lock hold between hosts? What the mount table says of a file system."""

import os
from typing import NamedTuple, Tuple

# Served to several hosts, with flock that holds between them if no option of the mount says else.
_NETWORK = ("nfs", "nfs4", "lustre", "ceph")
# Served to several hosts, and flock succeeds in each without asking the server: always, unless it
# was set up otherwise (BeeGFS), or before Linux 5.5 (SMB).
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
# By these options of a mount, too: NFS, Lustre, CIFS, GFS2.
_LOCAL_LOCKS = frozenset(
    ["nolock", "local_lock=all", "local_lock=flock", "localflock", "localflocks", "nobrl"]
)
# Those and others of which every host sees the same inode numbers.
_SAME_INODES = (*_NETWORK, "beegfs", "fuse.glusterfs", "gpfs")
# On a disk of this machine, which may be an NFS server for it.
_DISKS = ("btrfs", "ext2", "ext3", "ext4", "f2fs", "xfs", "zfs")


class Mount(NamedTuple):
    """A file system as it is mounted here."""

    kind: str = ""  # "ext4", "nfs4", "fuse.sshfs"; "" where that is not known
    options: Tuple[str, ...] = ()


def find_mount(device: int, mounts: str) -> Mount:
    """The file system with this number. `mounts`: the text of /proc/self/mountinfo."""
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
    """The file system on which an open file lies."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as stream:
            mounts = stream.read()
    except OSError:
        return Mount()
    return find_mount(os.fstat(descriptor).st_dev, mounts)


def is_flock_local(mount: Mount) -> bool:
    """Does flock succeed there without other hosts seeing it?"""
    return mount.kind in _FLOCK_OF_ONE_HOST or not _LOCAL_LOCKS.isdisjoint(mount.options)


def is_network(mount: Mount) -> bool:
    """Do several hosts have it, by a server that keeps their locks?"""
    return mount.kind in _NETWORK


def has_one_inode_everywhere(mount: Mount) -> bool:
    """Do several hosts have it, and see a file under one number?"""
    return mount.kind in _SAME_INODES


def is_disk(mount: Mount) -> bool:
    """Is it one that this machine may serve to others by NFS?"""
    return mount.kind in _DISKS
