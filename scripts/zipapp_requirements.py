"""Prints pyproject's dependencies, one a line, for a build that runs before they are installed."""

import pathlib
import re

text = pathlib.Path(__file__).resolve().parent.parent.joinpath("pyproject.toml").read_text(encoding="utf-8")
block = re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S)
for line in re.findall(r'"([^"]+)"', block.group(1)):
    print(line)
