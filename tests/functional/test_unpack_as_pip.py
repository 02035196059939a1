"""A wheel of every feature, and real ones, installed by pip and by safe-install: the same tree, to
the byte.

More real wheels: `python -m tests.differential.unpacked`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Sequence

import pytest

from tests.choice import long_unless
from tests.differential.unpacked import SHORT, Trial, download
from tests.functional.conftest import make_once
from tests.lab import stacks
from tests.unit.wheels.crafted import make_entry, make_row, make_wheel

NAME = "odd-1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: Odd\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: {purelib}\nTag: py3-none-any\n"
ENTRY_POINTS = """\
[console_scripts]
odd = odd:main
odd-more = odd.sub:Class.method [extra]
[gui_scripts]
odd-window = odd:main
"""
FILES = {
    "odd/__init__.py": "def main(): pass\n",
    "odd/sub/names.tar.py": "x = 1\n",
    "odd/sub/__init__.py": "",
    "odd/template.py": "{{ no python }}\n",
    "odd/old.py": "print 'two'\n",
    "odd/naïve.txt": "ï\n",
    "space of names/part/module.py": "x = 2\n",
    "odd single.py": "x = 3\n",
    "odd-1.0.data/purelib/pure/a.py": "x = 4\n",
    "odd-1.0.data/platlib/plat/b.py": "x = 5\n",
    "odd-1.0.data/headers/odd.h": "int x;\n",
    "odd-1.0.data/data/share/odd/data.txt": "data\n",
    "odd-1.0.data/data/odd-at-the-top.txt": "",
    "odd-1.0.data/scripts/odd": "#!python\na wrapper\n",
    "odd-1.0.data/scripts/odd-script.py": "#!python\nanother\n",
    "odd-1.0.data/scripts/odd-program": "#!python -E\nprint(1)\n",
    "odd-1.0.data/scripts/odd-shell": "#!/bin/sh\ntrue\n",
    "odd-1.0.data/scripts/odd-module.py": "#!python\nprint(2)\n",
    "odd-1.0.dist-info/licenses/LICENSE": "free\n",
    "odd-1.0.dist-info/entry_points.txt": ENTRY_POINTS,
}
EXECUTABLE = "#!/bin/sh\nexit 0\n"
VERSIONS = long_unless("3.11".__eq__, ["3.8", "3.11", "3.13"])


@pytest.mark.parametrize("version", VERSIONS)
def test_both_write_the_same(tmp_path: Path, make_template, version: str) -> None:
    (tmp_path / "pure").mkdir()
    (tmp_path / "plat").mkdir()
    trial = Trial(tmp_path, make_template(version, ()))
    for folder, purelib in ((tmp_path / "pure", "true"), (tmp_path / "plat", "false")):
        wheel = make_wheel(
            folder,
            FILES,
            filename=NAME,
            metadata=METADATA,
            wheel=WHEEL.format(purelib=purelib),
            dist_info="odd-1.0.dist-info",
            record=lambda text: text + make_row("odd/tool", EXECUTABLE),
            extra=[(make_entry("odd/tool", mode=0o100755), EXECUTABLE)],
        )
        assert trial.compare(wheel) == []


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_both_write_the_same_of_real_wheels(tmp_path: Path, make_template, version: str) -> None:
    trial = Trial(tmp_path, make_template(version, ()))
    wheels = sorted(_real_wheels(trial.template).glob("*.whl"))
    assert len(wheels) == len(SHORT)
    assert trial.compare(*wheels) == []


def _real_wheels(template: Path) -> Path:
    """The folder of the lab's cache that has them, for the Python of this environment."""
    (library,) = template.glob("lib/python*")
    folder = stacks.cache_folder() / "real-wheels" / f"{library.name}-{_key(SHORT)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = str(template / "bin" / "python")
    return make_once(folder, lambda out: download(python, out, SHORT))


def _key(projects: Sequence[str]) -> str:
    """Changes with what is downloaded."""
    return hashlib.sha256(" ".join(projects).encode()).hexdigest()[:8]
