"""The script that adds a torch to the table of assertions."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from safe_install.wheels.fingerprint import identify_torch
from tests.scripts import load_script

HEADER = """#pragma once
inline void f(int x) {
  TORCH_CHECK(x > 0);
  TORCH_INTERNAL_ASSERT(
      x < 3,
      "too large");
}
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = load_script("extend_torch_headers")
    table = {"c10/a.h": {"9": ["2.1.0", "3.0.0"], "7": ["3.1.0"]}}
    monkeypatch.setattr(module, "TABLE", tmp_path / "table.json.gz")
    module.TABLE.write_bytes(gzip.compress(json.dumps(table).encode()))
    return module


def unpack(folder: Path) -> Path:
    include = folder / "torch" / "include" / "c10"
    include.mkdir(parents=True)
    (include / "a.h").write_text(HEADER)
    (include / "none.h").write_text("#pragma once\n")
    (folder / "torch" / "version.py").write_text("__version__ = '3.0.0'\n")
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_a_torch_replaces_its_own_lines_and_leaves_the_others(
    script: Any, tmp_path: Path, packed: bool
) -> None:
    source = unpack(tmp_path / "torch3")
    if packed:
        wheel = tmp_path / "torch-3.0.0-cp311-cp311-linux_x86_64.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for path in source.rglob("*.*"):
                archive.write(path, path.relative_to(source).as_posix())
        source = wheel
    assert script.main([str(source)]) == 0
    table = json.loads(gzip.decompress(script.TABLE.read_bytes()))
    assert table == {"c10/a.h": {"9": ["2.1.0"], "7": ["3.1.0"], "3,4,6": ["3.0.0"]}}
    assert identify_torch([("c10/a.h", 3), ("c10/a.h", 4), ("c10/a.h", 6)], table).minors == (
        "3.0",
    )
    again = script.TABLE.read_bytes()
    assert script.main([str(source)]) == 0
    assert script.TABLE.read_bytes() == again


def test_what_is_no_torch_is_told(script: Any, tmp_path: Path) -> None:
    source = unpack(tmp_path / "torch3")
    (source / "torch" / "version.py").write_text("")
    with pytest.raises(SystemExit, match="does not say its version"):
        script.main([str(source)])
    assert script.main([]) == 2
