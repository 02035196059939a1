"""torch-sparse imports torch-scatter and scipy, and its metadata names neither: they come along all
the same."""

from __future__ import annotations

import pytest

from tests.functional.test_founding_story import reach
from tests.lab.wheels import write_wheel
from tests.wheelhost import WheelHost

TORCH = "torch==1.8.1+cu111"
# As much of torch_sparse as the operation of the wheel index asks for.
SPARSE = """
import types
import scipy, torch, torch_scatter
class Answer(list):
    def tolist(self):
        return list(self)
def spmm(index, value, rows, columns, dense):
    return Answer([[3.0], [3.0]])
torch.ops.torch_sparse = types.SimpleNamespace(ind2ptr=lambda rows, count: Answer([0, 2, 3]))
"""


@pytest.fixture
def environment(make_environment, lab_wheels, tmp_path):
    (scatter,) = (lab_wheels("3.8").extensions / "1.8.1+cu111").glob("*.whl")
    sparse = write_wheel(
        tmp_path / "sparse",
        "torch-sparse",
        "0.6.12",
        {"torch_sparse/__init__.py": SPARSE},
        tag="cp38-cp38-linux_x86_64",
    )
    scipy = write_wheel(tmp_path / "scipy", "scipy", "1.0", {"scipy/__init__.py": ""})
    with WheelHost() as host:
        host.add_pyg_page(
            "1.8.0", "cu111", {wheel.name: wheel.read_bytes() for wheel in (scatter, sparse)}
        )
        links = f"{lab_wheels('3.8').index} {scipy.parent}"
        variables = {**reach(host), "PIP_FIND_LINKS": links}
        yield make_environment("3.8", TORCH, FAKE_DRIVER_CUDA="11.1", **variables)


def test_they_come_along_and_are_not_marked_as_asked_for(environment):
    before = environment.tree()
    document = environment.document("torch-sparse")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document
    steps = {step["name"]: step for step in document["plan"]["steps"]}
    assert set(steps) == {"torch-sparse", "torch-scatter", "scipy"}
    assert [name for name, step in steps.items() if step["requested"]] == ["torch-sparse"]
    assert steps["scipy"]["because"] == "torch-sparse 0.6.12 needs scipy"
    assert steps["torch-scatter"]["because"] == "torch-sparse 0.6.12 needs torch-scatter"
    assert document["after"]["operations"]["torch-sparse on cuda"]["ok"]
    assert environment.safe_install("undo").returncode == 0
    assert environment.tree() == before


def test_what_is_there_already_is_not_installed_again(environment):
    assert environment.safe_install("torch-scatter", "scipy").returncode == 0
    document = environment.document("torch-sparse")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document
    assert [step["name"] for step in document["plan"]["steps"]] == ["torch-sparse"]
