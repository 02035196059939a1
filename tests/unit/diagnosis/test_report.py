"""The report: the fields of torch.utils.collect_env, and nothing that names a person."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from safe_install.diagnosis.facts import CondaPackage, Facts, ProbeProblem
from safe_install.diagnosis.report import (
    Extension,
    MachineDescription,
    hide_names,
    render_report,
)
from safe_install.diagnosis.run import CheckResult, Status
from safe_install.models import Device, Driver, Finding, Severity
from tests.factories import make_distribution, make_environment, make_health, make_interpreter

# The names in env_info_fmt of torch/utils/collect_env.py (torch 2.13.0) that are filled here.
FIELDS = (
    "PyTorch version",
    "Is debug build",
    "CUDA used to build PyTorch",
    "ROCM used to build PyTorch",
    "OS",
    "GCC version",
    "Clang version",
    "CMake version",
    "Libc version",
    "Python version",
    "Python platform",
    "Is CUDA available",
    "CUDA runtime version",
    "CUDA_MODULE_LOADING set to",
    "GPU models and configuration",
    "Nvidia driver version",
    "cuDNN version",
    "Caching allocator config",
    "CPU",
    "Versions of relevant libraries",
)
EXECUTABLE = Path("/env/bin/python")
NOTHING_KNOWN = MachineDescription()
A100 = Device("NVIDIA A100", "8.0")


def full_facts(**fields):
    environment = make_environment(
        make_distribution("nvidia-cudnn-cu12", "9.10.2.21"),
        make_distribution("torch-scatter", "2.1.2+pt28cu126"),
        make_distribution("six", "1.17.0"),
        torch="2.8.0+cu126",
        driver=Driver("560.35.03", "12.6", (A100, A100)),
    )
    return Facts(EXECUTABLE, environment, health=make_health(torch="2.8.0+cu126"), **fields)


def lines_of(facts, machine=NOTHING_KNOWN, results=()):
    return render_report(facts, machine, results).splitlines()


def test_it_is_a_block_with_the_fields_of_collect_env_in_its_order():
    lines = lines_of(full_facts())
    assert (lines[0], lines[-1]) == ("```text", "```")
    names = [line.partition(":")[0] for line in lines]
    positions = [names.index(name) for name in FIELDS]
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    "line",
    [
        "PyTorch version: 2.8.0+cu126",
        "CUDA used to build PyTorch: 12.6",
        "ROCM used to build PyTorch: N/A",
        "Libc version: glibc-2.36",
        "Python version: 3.11.7",
        "Is CUDA available: True",
        "CUDA_MODULE_LOADING set to: ",
        "GPU models and configuration: ",
        "GPU 0: NVIDIA A100",
        "GPU 1: NVIDIA A100",
        "8.0, 8.0",
        "Nvidia driver version: 560.35.03",
        "cuDNN version: Could not collect",
        "Caching allocator config: N/A",
        "[pip3] nvidia-cudnn-cu12==9.10.2.21",
        "[pip3] torch==2.8.0+cu126",
        "[pip3] torch-scatter==2.1.2+pt28cu126",
        "[conda] Could not collect",
        "OS: Could not collect",
    ],
)
def test_what_is_known_stands_in_its_field(line):
    assert line in lines_of(full_facts())


def test_other_distributions_are_left_out():
    assert not [line for line in lines_of(full_facts()) if "six" in line]


def test_the_machine_extensions_and_changes():
    machine = MachineDescription(
        system="Debian GNU/Linux 12 (bookworm) (x86_64)",
        gcc="12.2.0",
        nvcc="12.6.85",
        processor="Xeon, 8 logical",
        changes=("2026-11-24 +torch-scatter 2.1.2",),
        extensions=(
            Extension("torch-scatter", "2.1.2", "built here", "fits"),
            Extension("mmcv", "2.2.0", "", "mmcv fails: no _ext"),
        ),
    )
    lines = lines_of(full_facts(), machine)
    assert "OS: Debian GNU/Linux 12 (bookworm) (x86_64)" in lines
    assert "GCC version: 12.2.0" in lines
    assert "CUDA runtime version: 12.6.85" in lines
    assert "Xeon, 8 logical" in lines
    assert "torch-scatter==2.1.2: fits (built here)" in lines
    assert "mmcv==2.2.0: mmcv fails: no _ext (not known where from)" in lines
    assert "2026-11-24 +torch-scatter 2.1.2" in lines


def test_what_the_checks_found():
    finding = Finding("files-missing", Severity.ERROR, "torch", "1 file of torch is gone")
    results = (
        CheckResult("records", Status.FOUND, (finding,)),
        CheckResult("disk", Status.PASSED),
        CheckResult("cuda", Status.CANNOT_TELL, because="it was not asked"),
        CheckResult("numpy", Status.SKIPPED, because="torch-installed found an error"),
    )
    lines = lines_of(full_facts(), results=results)
    assert "records: error: 1 file of torch is gone" in lines
    assert "cuda: cannot tell, because it was not asked" in lines
    assert "2 of 4 checks were made" in lines


def test_an_environment_of_conda_without_torch_and_health():
    facts = Facts(
        EXECUTABLE,
        make_environment(interpreter=make_interpreter(libc=("", ""))),
        conda=(CondaPackage("pytorch", "2.5.1"),),
    )
    lines = lines_of(facts)
    assert "PyTorch version: N/A" in lines
    assert "Is CUDA available: N/A" in lines
    assert "Libc version: Could not collect" in lines
    assert "cuDNN version: Could not collect" in lines
    assert "[conda] pytorch 2.5.1" in lines


def test_nothing_of_interest_installed():
    lines = lines_of(Facts(EXECUTABLE, make_environment()), MachineDescription(has_conda=True))
    assert "[pip3] No relevant packages" in lines
    assert "[conda] No relevant packages" in lines


def test_a_cpu_build_has_no_cuda_as_collect_env_says_it():
    environment = make_environment(torch="2.13.0+cpu")
    health = make_health(torch="2.13.0+cpu", cuda=None, available=None)
    lines = lines_of(Facts(EXECUTABLE, environment, health=health))
    assert "CUDA used to build PyTorch: None" in lines
    assert "Is CUDA available: False" in lines
    assert "GPU models and configuration: No CUDA" in lines
    assert "cuDNN version: No CUDA" in lines


def test_one_gpu_stands_in_its_line_and_names_are_as_pip_writes_them():
    environment = make_environment(
        make_distribution("nvidia-nvtx", "1.0"),
        dataclasses.replace(
            make_distribution("pytorch-triton", "3.4"), written_name="PyTorch_Triton"
        ),
        torch="2.8.0+cu126",
        driver=Driver("560.35.03", "12.6", (A100,)),
    )
    variables = {"PYTORCH_ALLOC_CONF": "backend:native", "CUDA_MODULE_LOADING": "LAZY"}
    facts = Facts(
        EXECUTABLE, environment, variables=variables, health=make_health(torch="2.8.0+cu126")
    )
    lines = lines_of(facts, MachineDescription(python="3.11.7 (main) [GCC] (64-bit runtime)"))
    assert "GPU models and configuration: GPU 0: NVIDIA A100" in lines
    assert "[pip3] PyTorch_Triton==3.4" in lines
    assert "[pip3] nvidia-nvtx==1.0" in lines
    assert "Caching allocator config: {'PYTORCH_ALLOC_CONF': 'backend:native'}" in lines
    assert "CUDA_MODULE_LOADING set to: LAZY" in lines
    assert "Python version: 3.11.7 (main) [GCC] (64-bit runtime)" in lines


def test_a_build_for_ROCm():
    environment = make_environment(torch="2.8.0+rocm6.4")
    torch = dataclasses.replace(environment.torch, hip="6.4.43482")
    lines = lines_of(Facts(EXECUTABLE, dataclasses.replace(environment, torch=torch)))
    assert "CUDA used to build PyTorch: N/A" in lines
    assert "ROCM used to build PyTorch: 6.4.43482" in lines


def test_an_interpreter_that_does_not_answer():
    facts = Facts(EXECUTABLE, problem=ProbeProblem("/env/bin/python could not be probed", ""))
    lines = lines_of(facts)
    assert "Python version: Could not collect" in lines
    assert "the interpreter: /env/bin/python could not be probed" in lines
    assert "cuDNN version: Could not collect" in lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/anna/env/bin", "~/env/bin"),
        ("/home/berta/env", "/home/****/env"),
        ("/Users/berta/env", "/Users/****/env"),
        ("/data/anna/x", "/data/****/x"),
        ("on node17: no GPU", "on ****: no GPU"),
        ("node171 and my-node17", "node171 and my-node17"),
        ("https://anna:secret@index.example/simple", "https://****@index.example/simple"),
    ],
)
def test_names_and_secrets_are_hidden(text, shown):
    machine = MachineDescription(home="/home/anna", user="anna", host="node17")
    assert hide_names(text, machine) == shown


@pytest.mark.parametrize(
    "machine",
    [
        MachineDescription(home="/", user="root", host="localhost"),
        MachineDescription(home="", user="me", host="pc"),
    ],
)
def test_names_that_tell_nothing_stay(machine):
    text = "/env: root of me on localhost, pc"
    assert hide_names(text, machine) == text
