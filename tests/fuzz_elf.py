"""Random damage to built ELF files, for as long as one likes: `python -m tests.fuzz_elf SECONDS
[SEED]`.

Reading ends in a value or in NotElf, within two seconds; what ends otherwise is counted by where it
came from, and the first file of each kind is kept in the current folder.
"""

from __future__ import annotations

import random
import struct
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Tuple

from tests.unit.wheels.elffiles import ask_everything, patch, rich_elf

LIMIT = 2.0  # seconds for one file
NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
    0x10000,
    16,
    24,
)


def damage(chance: random.Random, data: bytes) -> bytes:
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(data))
        kind = chance.randrange(5)
        if kind == 0:
            data = patch(data, at, bytes([chance.randrange(256)]))
        elif kind == 1:
            form = chance.choice(["<H", "<I", "<Q"])
            number = chance.choice(NUMBERS) % 256 ** struct.calcsize(form)
            data = patch(data, at // 4 * 4, struct.pack(form, number))
        elif kind == 2:
            start = chance.randrange(len(data))
            data = patch(data, at, data[start : start + chance.randint(1, 64)])
        elif kind == 3:
            data = patch(data, at // 4 * 4, struct.pack("<I", chance.randrange(len(data))))
        elif chance.random() < 0.2:
            data = data[: max(at, 64)]
    return data


def fuzz(seconds: float, seed: int) -> Tuple[int, Counter]:
    chance, found, files = random.Random(seed), Counter(), 0
    bases = [rich_elf(hashes=hashes).data for hashes in (("gnu",), ("sysv",), ("gnu", "sysv"), ())]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = damage(chance, chance.choice(bases))
        files += 1
        start, what = time.perf_counter(), ""
        try:
            ask_everything(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is sought
            frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
            what = f"{type(error).__name__} in {frames[-1]}"
        if not what and time.perf_counter() - start > LIMIT:
            what = "slow"
        if what:
            found[what] += 1
            if found[what] == 1:
                Path(f"fuzz-{what.replace(' ', '-')}.so").write_bytes(data)
    return files, found


if __name__ == "__main__":
    count, kinds = fuzz(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(f"{count} files: {dict(kinds) or 'nothing found'}")
