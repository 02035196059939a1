"""The words of scripts/fleet_bench.py, and a run of two nodes."""

from __future__ import annotations

import pytest

from tests.scripts import load_script

MAIN = load_script("fleet_bench").main


def test_a_line_needs_two_points(capsys):
    assert MAIN(["--nodes", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" | - |")
    assert MAIN(["--nodes", "2,4,2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(" ms |")


@pytest.mark.parametrize("sizes", ["", "0", "x", "8,", "-1"])
def test_what_is_no_number_of_nodes(sizes, capsys):
    with pytest.raises(SystemExit) as ended:
        MAIN([f"--nodes={sizes}"])
    assert ended.value.code == 2
    assert "write numbers of nodes, as in 8,64,256" in capsys.readouterr().err
