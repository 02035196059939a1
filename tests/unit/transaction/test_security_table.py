"""Each path of the table in docs/security.md is brought by a wheel: is the answer the one that the
table says?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator, Tuple

import pytest

from safe_install.errors import WheelInvalid
from safe_install.transaction.moves import CLOSED_PACKAGES, MovePlan, MoveRefusal
from safe_install.wheels.archive import open_wheel
from safe_install.wheels.startup import (
    find_activation_files,
    find_prefix_libraries,
    find_start_files,
)
from tests.unit.transaction.test_moves import SITE, find_left_out, plan
from tests.unit.wheels.crafted import make_wheel

DOCUMENT = Path(__file__).parents[3] / "docs" / "security.md"
CHECKS = {
    "runs-at-start": find_start_files,
    "runs-at-activation": find_activation_files,
    "library-in-prefix": find_prefix_libraries,
}
DISK = {
    "torch/__init__.py": "",
    "torchgen/__init__.py": "",
    "functorch/__init__.py": "",
    "triton/backends/nvidia/driver.py": "",
    "six.py": "theirs",
    "/env/lib64": "-> /env/lib",
}
INSTALLED = {
    f"{SITE}/{package}": name for name in ("torch", "triton") for package in CLOSED_PACKAGES[name]
}


def read_rows() -> Iterator[Tuple[str, str]]:
    """(an example, the answer) of every row."""
    text = DOCUMENT.read_text().partition("| what a wheel brings |")[2]
    for line in text.splitlines()[2:]:
        if not line.startswith("|"):
            break
        what, _, answer = line.strip("| ").split(" | ")
        examples = [
            path
            for path in re.findall(r"`([^`]+)`", what)
            if "/" in path or path.startswith((".", "py", "pip"))
        ]
        assert examples, line
        for example in examples:
            yield example, answer


ROWS = tuple(read_rows())


def test_the_table_is_read():
    assert len(ROWS) > 45
    assert {answer.split()[0].strip(":") for _, answer in ROWS} == {
        "refused",
        "left",
        "said",
        "nothing",
    }


@pytest.mark.parametrize(("example", "answer"), ROWS, ids=[example for example, _ in ROWS])
def test_the_answer_is_what_the_document_says(tmp_path, example, answer):
    is_site = example.startswith("site-packages/")
    path = example[len("site-packages/") :] if is_site else f"/env/{example}"
    moves = plan(DISK, {path: "new"}, (), {"six.py": "six"}, closed=INSTALLED)
    member = path if is_site else f"demo-1.0.data/data/{example}"
    if "archive.py" in answer:
        with pytest.raises(WheelInvalid):
            open_wheel(make_wheel(tmp_path, {"demo/a.py": "", member: ""}))
    elif answer.startswith("refused"):
        assert isinstance(moves, MoveRefusal), moves
    elif answer.startswith("left out"):
        assert isinstance(moves, MovePlan)
        assert find_left_out(moves, [path]) == [path]
    else:
        assert isinstance(moves, MovePlan), moves
        said = {check for check, find in CHECKS.items() if find([member], "demo-1.0.dist-info")}
        assert said == ({answer.split("`")[1]} if answer.startswith("said") else set())
