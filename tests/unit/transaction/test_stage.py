"""The RECORD of a staged wheel says what lies there, whatever the wheel's own said."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Dict, Mapping

from packaging.utils import canonicalize_name

from safe_install.environment.record import make_entry
from safe_install.models import Action, Step
from safe_install.transaction.stage import StagedWheel, _direct_url, _finish_dist_info

SITE = "env/lib/python3.11/site-packages"
RECORD = "alpha-1.0.dist-info/RECORD"


def stage_of(tmp_path: Path, files: Mapping[str, str], record: str) -> Path:
    for name, content in {**files, RECORD: record}.items():
        path = Path(tmp_path / SITE / name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.resolve().write_text(content)
    return tmp_path


def read_rows(stage: Path) -> Dict[str, str]:
    with (stage / SITE / RECORD).open(newline="") as file:
        return {row[0]: row[1] for row in csv.reader(file)}


def test_rows_are_true_and_only_of_its_own_files(tmp_path: Path) -> None:
    """beta comes in the same command: a row of alpha's must not take it along when alpha is
    removed."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / SITE).mkdir(parents=True)
    files = {
        "alpha.py": "x = 1\n",
        "beta.py": "x = 2\n",
        "__pycache__/alpha.cpython-311.pyc": "",
        "../../../bin/alpha": "#!/bin/sh\n",
    }
    record = (
        "alpha.py,sha256=AAAA,1\nbeta.py,sha256=AAAA,1\ngone.py,,\n../../../bin/alpha,,\n"
        f"__pycache__/alpha.cpython-311.pyc,,\n{RECORD},,\n"
    )
    stage = stage_of(tmp_path, files, record)
    wheel = StagedWheel(
        Step(Action.ADD, canonicalize_name("alpha"), "1.0", requested=True),
        tmp_path / "alpha-1.0-py3-none-any.whl",
        "alpha-1.0-py3-none-any.whl",
        "1.0",
        1,
        misrecorded=("alpha.py", "beta.py"),
        not_in_archive=("beta.py", "gone.py"),
    )
    _finish_dist_info(stage, wheel)
    assert read_rows(stage) == {
        "../../../bin/alpha": make_entry("", b"#!/bin/sh\n").hash,
        "__pycache__/alpha.cpython-311.pyc": "",
        RECORD: "",
        "alpha.py": make_entry("", b"x = 1\n").hash,
    }


def test_a_true_record_stays_as_it_is(tmp_path: Path) -> None:
    record = f"alpha.py,md5=AAAA,1\n{RECORD},,\n"
    stage = stage_of(tmp_path, {"alpha.py": ""}, record)
    step = Step(Action.ADD, canonicalize_name("alpha"), "1.0", requested=True)
    _finish_dist_info(stage, StagedWheel(step, tmp_path, "alpha-1.0-py3-none-any.whl", "1.0", 1))
    assert (stage / SITE / RECORD).read_text() == record


def test_the_address_that_is_kept_has_no_secret() -> None:
    info = {
        "url": "https://host/x.whl?token=secret&a=b",
        "archive_info": {"hash": "sha256=aa"},
        "other": 1,
    }
    kept = json.loads(_direct_url(info))
    assert kept == {
        "url": "https://host/x.whl?token=****&a=b",
        "archive_info": {"hash": "sha256=aa"},
    }
