"""docs/doctor.md counts the recipes of the break lab: do they agree?"""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.breakage import (
    RECIPES,
    around,
    files,
    outside,
    paths,
    people,
    real_torch,
    shell,
    strange,
    torch_parts,
)

PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"
MODULES = (files, paths, torch_parts, outside, around, shell, people, strange)


def test_the_page_counts_the_ways_to_break_an_environment():
    text = PAGE.read_text(encoding="utf-8")
    counted = [int(number) for number in re.findall(r"(?m)^\| .+ \| (\d+) \| \d+ \| 0 \|$", text)]
    assert counted == [len(module.RECIPES) for module in MODULES]
    assert f"break environments in {len(RECIPES)} ways" in text
    assert f"{sum(recipe.mends for recipe in RECIPES)} of the hints are typed" in text
    assert f"{len(real_torch.RECIPES)} ways are tried with the real torch" in text
