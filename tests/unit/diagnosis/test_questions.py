"""The four questions: torch's CUDA, the driver, PATH, LD_LIBRARY_PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from safe_install.diagnosis.facts import Facts, Program, ShadowingLibrary
from safe_install.diagnosis.questions import answer_questions
from safe_install.models import Device, Driver
from tests.factories import make_environment

EXECUTABLE = Path("/env/bin/python")
CUDNN = ShadowingLibrary(
    "libcudnn.so.9", Path("/usr/lib/libcudnn.so.9"), Path("/env/libcudnn.so.9")
)
DRIVER = Driver("560.35.03", "12.6", (Device("A100", "8.0"),))


def facts(torch=None, driver=None, **fields):
    return Facts(EXECUTABLE, make_environment(torch=torch, driver=driver), **fields)


@pytest.mark.parametrize(
    ("asked", "question", "answer"),
    [
        (
            Facts(EXECUTABLE),
            "torch.version.cuda",
            "not known: the interpreter does not answer",
        ),
        (Facts(EXECUTABLE), "driver", "none here"),
        (facts(), "torch.version.cuda", "there is no torch"),
        (facts("2.13.0+cpu"), "torch.version.cuda", "None (torch 2.13.0+cpu)"),
        (facts("2.8.0+cu126"), "torch.version.cuda", "12.6 (torch 2.8.0+cu126)"),
        (
            facts("2.8.0+cu126", DRIVER),
            "driver",
            "560.35.03 (serves CUDA 12.6, torch wants 12.6), 1 GPU",
        ),
        (facts(driver=DRIVER), "driver", "560.35.03 (serves CUDA 12.6), 1 GPU"),
        (
            facts(driver=Driver(None, None)),
            "driver",
            "of an unknown version (which CUDA it serves is not known), 0 GPUs",
        ),
        (
            facts(driver=Driver("535.1", None, problem="NVML error 18: mismatch")),
            "driver",
            "NVML error 18: mismatch",
        ),
        (facts(), "PATH", "neither python nor pip nor nvcc is on it"),
        (
            facts(
                programs=(
                    Program("python", Path("/env/bin/python")),
                    Program("python3", Path("/env/bin/python3")),
                    Program("pip", Path("/usr/bin/pip")),
                )
            ),
            "PATH",
            "python: /env/bin/python, pip: /usr/bin/pip",
        ),
        (facts(), "LD_LIBRARY_PATH", "not set"),
        (
            facts(variables={"LD_LIBRARY_PATH": "/opt/lib"}),
            "LD_LIBRARY_PATH",
            "/opt/lib (hides none of torch's libraries)",
        ),
        (
            facts(variables={"LD_LIBRARY_PATH": "/usr/lib"}, shadowing=(CUDNN,)),
            "LD_LIBRARY_PATH",
            "/usr/lib (hides libcudnn.so.9)",
        ),
    ],
)
def test_each_answer(asked, question, answer):
    assert dict(answer_questions(asked))[question] == answer


def test_the_questions_stand_in_their_order():
    names = [name for name, _ in answer_questions(facts())]
    assert names == ["torch.version.cuda", "driver", "PATH", "LD_LIBRARY_PATH"]
