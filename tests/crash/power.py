"""Power cuts: a file system in a file, shut down without writing its log while a change is made,
mounted again.

    sudo python -m tests.crash.power [--cuts 100] [--control 40] [--seed N]

`--control` leaves out the one syncfs of the stage: then some cuts must end in an environment that
its journal calls committed and whose files are empty. Needs root, loop devices and mkfs.ext4.
"""

from __future__ import annotations

import argparse
import array
import errno
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, Optional

from safe_install.transaction.recovery.disk import sync_directory
from tests.crash.victim import ACTIONS, Trial
from tests.disk_calls import replace_everywhere
from tests.treehash import hash_tree

# EXT4_IOC_SHUTDOWN, the same number as XFS_IOC_GOINGDOWN (linux/fs/ext4/ext4.h)
SHUTDOWN = 0x8004587D
WITHOUT_LOG = 2  # what is in memory only is lost, as when the power goes
BEYOND = 1.3  # the last cut, in times of what a whole change takes there
IMAGE = 64 * 2**20  # bytes
PATIENCE = 60.0  # seconds


class Disk:
    """An ext4 file system in a file, mounted below a folder."""

    def __init__(self, folder: Path) -> None:
        self.image, self.place = folder / "disk.img", folder / "disk"
        self.place.mkdir()
        with self.image.open("wb") as stream:
            stream.truncate(IMAGE)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self.image)], check=True)

    def mount(self) -> None:
        """Mount it; what its own journal holds is replayed."""
        deadline = time.monotonic() + PATIENCE
        while True:
            # commit=1: the kernel writes each second, so that more states than "nothing yet" are
            # met.
            subprocess.run(
                ["mount", "-o", "loop,commit=1", str(self.image), str(self.place)], check=True
            )
            if self._is_alive() or time.monotonic() > deadline:
                return
            self.unmount()
            time.sleep(0.2)

    def _is_alive(self) -> bool:
        """A mount namespace of another process may hold the file system that was cut: then it is
        what is mounted."""
        probe = self.place / "probe"
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EROFS):
                raise
            return False
        return True

    def unmount(self) -> None:
        """Unmount it, if it is mounted."""
        if os.path.ismount(self.place):
            subprocess.run(["umount", str(self.place)], check=True)

    def cut(self) -> None:
        """No byte reaches the disk from now on."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, array.array("I", [WITHOUT_LOG]))
        finally:
            os.close(descriptor)


def why_not() -> Optional[str]:
    """What this machine lacks for power cuts, None where they can be made."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs Linux and root"
    for tool in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder))
        try:
            disk.mount()
            disk.cut()
        except (OSError, subprocess.CalledProcessError) as error:
            return f"needs loop devices: {error}"
        finally:
            disk.unmount()
    return None


def time_whole(disk: Disk, action: str) -> float:
    """Seconds that a change takes there which is not cut, now that the machine is as busy as it
    is."""
    disk.mount()
    try:
        trial = Trial(disk.place / "env")
        trial.begin(action)
        os.sync()
        begin = time.monotonic()
        assert trial.run(action) is None
        return time.monotonic() - begin
    finally:
        disk.unmount()


def cut_at_random(
    disk: Disk, action: str, generator: random.Random, longest: float, *, stage_synced: bool = True
) -> str:
    """One change, one power cut, one recovery; "before", "after" or "neither". `longest`: seconds
    until the cut."""
    disk.mount()
    try:
        trial = Trial(disk.place / "env")
        trial.begin(action)
        before = hash_tree(trial.prefix)
        os.sync()
        child = os.fork()
        if child == 0:
            try:
                if not stage_synced:
                    _leave_out_the_stage()
                trial._act(action)
            finally:
                os._exit(0)
        time.sleep(generator.uniform(0, longest))
        disk.cut()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    finally:
        disk.unmount()
    disk.mount()
    try:
        # Another name, so that what the program reads is the disk and nothing else.
        trial = Trial(disk.place / "env")
        try:
            assert trial.run("recover") is None
        except AssertionError:
            if stage_synced:
                raise
            return "neither"  # the control: a journal of zero bytes
        found = hash_tree(trial.prefix)
        if found == before:
            return "before"
        return "after" if found == _hash_after(action) else "neither"
    finally:
        disk.unmount()


def _leave_out_the_stage() -> None:
    def sync(path: str) -> None:
        if not path.endswith("/stage"):
            sync_directory(path)

    replace_everywhere(setattr, "sync_filesystem", sync)


_AFTER: Dict[str, str] = {}


def _hash_after(action: str) -> str:
    if action not in _AFTER:
        with tempfile.TemporaryDirectory() as folder:
            trial = Trial(Path(folder) / "env")
            trial.begin(action)
            assert trial.run(action) is None
            _AFTER[action] = hash_tree(trial.prefix)
    return _AFTER[action]


def cuts(count: int, generator: random.Random, *, stage_synced: bool = True) -> Iterator[str]:
    """So many power cuts, in turn over the actions; what each left."""
    with tempfile.TemporaryDirectory() as folder:
        disk = Disk(Path(folder))
        times: Dict[str, float] = {}
        for number in range(count):
            action = ACTIONS[number % len(ACTIONS)] if stage_synced else "commit"
            if action not in times:
                times[action] = time_whole(disk, action)
            longest = BEYOND * times[action] if stage_synced else 1.5
            state = cut_at_random(disk, action, generator, longest, stage_synced=stage_synced)
            yield f"{action}: {state}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--control", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"not run: {reason}")
        return 1
    generator = random.Random(options.seed)
    found = Counter(cuts(options.cuts, generator))
    print(f"power cuts: {dict(found)}", flush=True)
    control = Counter(cuts(options.control, generator, stage_synced=False))
    print(f"without the syncfs of the stage: {dict(control)}", flush=True)
    bad = sum(count for state, count in found.items() if state.endswith("neither"))
    blind = options.control and not any(state.endswith("neither") for state in control)
    return 1 if bad or blind else 0


if __name__ == "__main__":
    sys.exit(main())
