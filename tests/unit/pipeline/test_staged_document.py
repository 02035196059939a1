"""A prepared change as JSON and back; what others may have written instead; does it still fit?"""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.environment.stamp import Stamp
from safe_install.errors import Refused
from safe_install.health.answers import Subject
from safe_install.models import (
    Action,
    Finding,
    InstalledDistribution,
    Origin,
    Plan,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.pipeline.commit import PreparedChange
from safe_install.pipeline.health_gate import Expectation, UnpackedFile
from safe_install.pipeline.staged_document import (
    StagedDocument,
    find_misfit,
    has_same_steps,
    make_document,
    parse_document,
)

SCATTER, NUMPY = canonicalize_name("torch-scatter"), canonicalize_name("numpy")
KNOWN = Subject(SCATTER, ("torch_scatter",), ("torch_scatter/*.so",), "print('of the index')")
OTHER = Subject(canonicalize_name("deep-tools"), ("deep_tools.ops",), ("deep_tools/_c.so",))
STAGED = StagedDocument(
    "20261123T101112Z-3f2a",
    prefix="/env",
    python="3.11.7",
    stage_hash="0" * 64,
    stamp=Stamp({"/env/lib/six.py": (3, 1), "/env/lib/torch": (-1, -1)}),
    change=PreparedChange(
        Plan(
            (
                Step(
                    Action.ADD,
                    SCATTER,
                    "2.0.8",
                    url="https://host/a.whl",
                    sha256="a" * 64,
                    requested=True,
                    because="requested",
                    is_hosted=True,
                    records_address=True,
                    requires=("numpy>=1",),
                    written_name="torch_scatter",
                ),
                Step(Action.REPLACE, NUMPY, "2.0", from_version="1.26", origin=Origin.SDIST),
            )
        ),
        command=("safe-install", "stage", "torch-scatter"),
        requested=("torch-scatter",),
        coming=(KNOWN, OTHER),
        files={SCATTER: UnpackedFile("b" * 64, 12)},
        expectation=Expectation(
            requested=frozenset({"torch-scatter", "torch_scatter"}),
            torch_requested=True,
            coming_torch=TorchBuild(Version("2.4.1+cpu"), "2.4.1+cpu", "cpu"),
            require_cuda=True,
            may_miss=frozenset({"pandas"}),
            built=("numpy",),
        ),
        path_warnings=("  WARNING: scripts",),
        findings=(Finding("runs-at-start", Severity.NOTE, "numpy", "a .pth file", "Look."),),
    ),
)
INSTALLED = {NUMPY: InstalledDistribution(NUMPY, "1.26", Path("/env/lib/numpy"), Path("/env/lib"))}


def find_subject(name: str) -> Optional[Subject]:
    return KNOWN if name == SCATTER else None


def written() -> Dict[str, Any]:
    found: Dict[str, Any] = json.loads(json.dumps(make_document(STAGED)))
    return found


def test_there_and_back() -> None:
    assert parse_document(written(), find_subject) == STAGED


def test_the_code_of_a_question_is_the_indexs_own() -> None:
    assert "of the index" not in json.dumps(written())
    (known, _) = parse_document(written(), find_subject).change.coming
    assert known.operation == KNOWN.operation


def test_no_password_is_written() -> None:
    step = Step(Action.ADD, NUMPY, "1", url="https://me:secret@host/a.whl")
    url = "https://me:secret@host/a.whl"
    change = PreparedChange(
        Plan((step,)),
        ("stage",),
        requested=(f"numpy @ {url}",),
        findings=(Finding("x", Severity.NOTE, "numpy", f"from {url}", f"See {url}."),),
    )
    document = make_document(StagedDocument("x", "/env", "3.11", "0" * 64, Stamp(), change))
    assert "secret" not in json.dumps(document)


def put(*path: Any) -> Callable[[Dict[str, Any]], None]:
    """Sets what stands at a place: `put("steps", 0, "name", 3)`."""

    def edit(document: Dict[str, Any]) -> None:
        place: Any = document
        for key in path[:-2]:
            place = place[key]
        place[path[-2]] = path[-1]

    return edit


def drop(key: str) -> Callable[[Dict[str, Any]], None]:
    def edit(document: Dict[str, Any]) -> None:
        del document[key]

    return edit


HOSTILE = {
    "another schema": put("schema", 2),
    "true is no schema": put("schema", True),
    "a key more": put("more", 1),
    "a key less": drop("stamp"),
    "no list": put("steps", {}),
    "no step": put("steps", []),
    "a step twice": put("steps", 1, "name", "torch-scatter"),
    "a step that is no object": put("steps", 0, 7),
    "a name that leads elsewhere": put("steps", 0, "name", "../../etc"),
    "a name that is not the normal one": put("steps", 0, "name", "Torch_Scatter"),
    "no name": put("steps", 0, "name", ""),
    "an unknown action": put("steps", 0, "action", "explode"),
    "an unknown origin": put("steps", 0, "origin", "moon"),
    "a hash that is none": put("steps", 0, "sha256", "zz"),
    "a version that is a number": put("steps", 0, "version", 1.0),
    "a text without end": put("steps", 0, "because", "x" * 100_000),
    "a NUL": put("prefix", "/env\0"),
    "requires is a text": put("steps", 0, "requires", "numpy"),
    "what is imported is code": put("coming", 1, "imports", ["os; os.system('x')"]),
    "what is imported is a path": put("coming", 1, "imports", ["../x"]),
    "a file outside": put("coming", 1, "native", ["../../x.so"]),
    "an absolute file": put("coming", 1, "native", ["/lib/x.so"]),
    "code to run": put("coming", 1, "operation", "import os"),
    "a flag that is a number": put("expectation", "no_rollback", 1),
    "a torch without a version": put("expectation", "coming_torch", "version", "new"),
    "a severity that is none": put("findings", 0, "severity", "fatal"),
    "a check that is none": put("findings", 0, "check", "\x1b[31m"),
    "a state of one number": put("stamp", "/env/lib/six.py", [1]),
    "a state of flags": put("stamp", "/env/lib/six.py", [True, False]),
    "a stamp that is a list": put("stamp", []),
    "a size below nothing": put("files", 0, "size", -1),
    "a size that is a flag": put("files", 0, "size", True),
    "a file of no project": put("files", 0, "name", "../x"),
    "no stage": put("stage", None),
}


@pytest.mark.parametrize("edit", HOSTILE.values(), ids=HOSTILE)
def test_what_is_refused(edit: Callable[[Dict[str, Any]], None]) -> None:
    document = written()
    edit(document)
    with pytest.raises(Refused, match="cannot be read"):
        parse_document(document, find_subject)


@pytest.mark.parametrize("value", [None, [], "text", 3, {}])
def test_what_is_no_document(value: Any) -> None:
    with pytest.raises(Refused, match="cannot be read"):
        parse_document(value, find_subject)


def test_the_same_steps() -> None:
    steps = STAGED.change.plan.steps
    other = dataclasses.replace(steps[0], sha256="b" * 64)
    read = parse_document(written(), find_subject)
    assert has_same_steps(read, STAGED.change.plan)
    assert not has_same_steps(read, Plan((other, steps[1])))
    assert not has_same_steps(read, Plan(steps[:1]))
    assert not has_same_steps(read, Plan(tuple(reversed(steps))))


# --- does it fit? ---------------------------------------------------------------------------------

NOW: Dict[str, Any] = {
    "prefix": "/env",
    "python": "3.11.7",
    "installed": INSTALLED,
    "stamp": STAGED.stamp,
    "stage_hash": "0" * 64,
    "in_stage": frozenset({SCATTER, NUMPY}),
}
OLDER = {NUMPY: InstalledDistribution(NUMPY, "1.25", Path("/env/lib/numpy"), Path("/env/lib"))}
MISFITS = [
    ({"prefix": "/copy"}, "it was copied, or moved"),
    ({"python": "3.11.8"}, "Python 3.11.7, here is 3.11.8"),
    ({"stamp": Stamp({"/env/lib/six.py": (4, 1), "/env/lib/torch": (-1, -1)})}, "has changed"),
    ({"stage_hash": "1" * 64}, "not those that were staged"),
    ({"stage_hash": None}, "not those that were staged"),
    ({"in_stage": frozenset({SCATTER})}, "not those that were staged"),
    ({"in_stage": frozenset({SCATTER, NUMPY, "torch"})}, "not those that were staged"),
    ({"installed": {}}, "do not begin with"),
    ({"installed": OLDER}, "do not begin with"),
]


def test_it_fits() -> None:
    assert find_misfit(STAGED, **copy.copy(NOW)) is None


@pytest.mark.parametrize(("changed", "reason"), MISFITS)
def test_it_does_not_fit(changed: Dict[str, Any], reason: str) -> None:
    misfit = find_misfit(STAGED, **{**NOW, **changed})
    assert misfit is not None
    assert reason in misfit.reason
    assert misfit.moved == (("/env/lib/six.py",) if "stamp" in changed else ())
