"""`safe-install verify`: the driver, numpy, another torch on sys.path, files without metadata.

torch, numpy and the driver are stand-ins (tests/lab); the environments, pip, the loader and the
processes are real.
"""

from __future__ import annotations

import shutil

import pytest

from tests.functional.conftest import Environment

TORCH = "torch==1.8.1+cu111"
CPU = "torch==2.13.0+cpu"


@pytest.fixture
def environment(make_environment) -> Environment:
    return make_environment("3.11", TORCH)


def errors(environment: Environment, *words: str, **variables: str):
    """The errors of `verify`, as check -> (detail, hint)."""
    document = environment.document("verify", *words, **variables)
    found = {
        f["check"]: f["detail"] + " | " + f["hint"]
        for f in document["findings"]
        if f["severity"] == "error"
    }
    assert (document["outcome"], document["exit_code"]) == (
        ("unhealthy", 1) if found else ("healthy", 0)
    )
    return found


# --- CUDA -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "check", "words"),
    [
        (
            {"FAKE_DRIVER_CUDA": "10.2", "FAKE_DRIVER": "440.33"},
            "driver-too-old",
            "driver 450.80.02 or newer; 440.33 (CUDA 10.2)",
        ),
        ({"FAKE_CUINIT_RC": "34"}, "cuda-stub", "/libcuda.so.1 (error 34)"),
        pytest.param({"FAKE_CUINIT_RC": "100"}, "no-device", "has 1 GPU", marks=pytest.mark.long),
        ({"FAKE_GPU_COUNT": "0"}, "no-device", "has no GPU"),
        pytest.param(
            {"FAKE_CUINIT_RC": "803", "FAKE_NVML_RC": "18"},
            "driver-mismatch",
            "of different versions",
            marks=pytest.mark.long,
        ),
        pytest.param(
            {"FAKE_CUINIT_RC": "804"},
            "forward-compatibility",
            "cuda-compat",
            marks=pytest.mark.long,
        ),
        pytest.param(
            {"FAKE_CUINIT_RC": "999", "FAKE_NVML_RC": "9"},
            "cuda-unavailable",
            "error 999",
            marks=pytest.mark.long,
        ),
        ({"CUDA_VISIBLE_DEVICES": ""}, "devices-hidden", 'CUDA_VISIBLE_DEVICES is ""'),
        pytest.param(
            {"CUDA_VISIBLE_DEVICES": "4"},
            "devices-hidden",
            'CUDA_VISIBLE_DEVICES is "4"',
            marks=pytest.mark.long,
        ),
    ],
    ids=lambda value: (
        " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None
    ),
)
def test_a_driver_that_torch_cannot_use_is_not_healthy(environment, variables, check, words):
    (found,) = errors(environment, **variables).items()
    assert found[0] == check
    assert words in found[1]


def test_a_build_without_cuda_on_a_machine_with_a_gpu(make_environment):
    environment = make_environment("3.11", CPU, FAKE_DRIVER_CUDA="13.0")
    found = errors(environment)
    assert "safe-install install torch==2.13.0+cu130" in found["build-without-cuda"]
    assert errors(environment, CUDA_VISIBLE_DEVICES="-1") == {}
    assert list(errors(environment, "--require-cuda")) == ["cuda-required"]


def test_a_healthy_answer_says_what_was_looked_at(environment):
    completed = environment.safe_install("verify")
    *looked_at, last = completed.stdout.splitlines()
    assert looked_at == [
        f"torch 1.8.1+cu111 in {environment.site.resolve()}/torch",
        "CUDA: available, driver 580.65.06 (CUDA 11.1), 1 device: NVIDIA A100-SXM4-40GB (8.0)",
        "imported: torch",
        "computed: torch on cpu, torch on cuda",
    ]
    assert last.startswith("Healthy: ")
    assert last.endswith(", torch 1.8.1+cu111).")
    assert completed.returncode == 0


# --- numpy ----------------------------------------------------------------------------------------


def test_a_numpy_that_torch_does_not_speak_with_is_rolled_back(make_environment):
    environment = make_environment("3.11", TORCH, "numpy==1.26.4")
    before = environment.tree()
    assert errors(environment) == {}
    document = environment.document("install", "-U", "numpy")
    assert (document["exit_code"], document["outcome"]) == (12, "rolled-back")
    (finding,) = [finding for finding in document["findings"] if finding["severity"] == "error"]
    assert (finding["check"], finding["subject"]) == ("operation-failed", "torch.from_numpy")
    assert "Numpy is not available" in finding["detail"]
    assert finding["hint"].startswith('Ask for "numpy<2"')
    assert environment.tree() == before


def test_a_numpy_that_never_worked_is_not_blamed_on_the_install(make_environment):
    environment = make_environment("3.11", TORCH, "numpy==2.0.0")
    assert "Numpy is not available" in errors(environment)["operation-failed"]
    document = environment.document("install", "nvidia-nccl-cu12")
    assert (document["exit_code"], document["outcome"]) == (0, "installed")


# --- another torch --------------------------------------------------------------------------------


def test_a_torch_on_pythonpath_is_not_the_installed_one(environment, tmp_path):
    other = tmp_path.resolve() / "other"
    shutil.copytree(environment.site / "torch", other / "torch")
    found = errors(environment, PYTHONPATH=str(other))["torch-shadowed"]
    assert f"is imported from {other}/torch (PYTHONPATH)" in found
    assert f"installed in {environment.site.resolve()}" in found
    (environment.site / "torch_first.pth").write_text(
        f"import sys; sys.path.insert(0, {str(other)!r})\n"
    )
    assert "another folder on sys.path" in errors(environment)["torch-shadowed"]


def test_a_torch_in_the_working_folder(environment):
    folder = environment.prefix.parent.resolve()  # where the tool is started
    (folder / "torch").mkdir()
    assert errors(environment) == {}, "a folder without __init__.py hides nothing"
    (folder / "torch.py").write_text("")
    assert (
        f"in {folder} Python imports {folder}/torch.py as torch"
        in errors(environment)["torch-shadowed"]
    )
    assert errors(environment, PYTHONSAFEPATH="1") == {}


def test_an_install_that_puts_another_torch_first_is_rolled_back(environment, tmp_path):
    from tests.lab.wheels import write_wheel

    other = tmp_path / "other"
    shutil.copytree(environment.site / "torch", other / "torch")
    code = f"import sys; sys.path.insert(0, {str(other)!r})\n"
    wheel = write_wheel(tmp_path, "path-tools", "1.0", {"path_tools.pth": code})
    before = environment.tree()
    document = environment.document("install", str(wheel))
    assert (document["exit_code"], document["outcome"]) == (12, "rolled-back")
    (moved,) = [finding for finding in document["findings"] if finding["check"] == "torch-moved"]
    assert f"is now imported from {other.resolve()}/torch" in moved["detail"]
    assert environment.tree() == before


# --- files without metadata, metadata without files -----------------------------------------------


def test_torch_without_metadata_and_what_brings_it_back(environment):
    (info,) = environment.site.glob("torch-*.dist-info")
    shutil.rmtree(info)
    found = errors(environment)["torch-without-metadata"]
    assert f"torch 1.8.1+cu111 is imported from {environment.site.resolve()}/torch" in found
    assert "safe-install install --force-reinstall --no-deps torch==1.8.1+cu111" in found
    assert (
        environment.safe_install("install", "--force-reinstall", "--no-deps", TORCH).returncode == 0
    )
    assert errors(environment) == {}


def test_what_is_left_of_a_torch(environment):
    (info,) = environment.site.glob("torch-*.dist-info")
    shutil.rmtree(info)
    (environment.site / "torch" / "__init__.py").unlink()
    assert "no __init__.py" in errors(environment)["torch-leftover"]
    (environment.site / "torch" / "version.py").unlink()
    found = errors(environment)["torch-leftover"]
    shutil.rmtree(environment.site / "torch")
    assert list(errors(environment)) == ["torch-missing"]
    assert "Remove" in found and "then install torch" in found
    assert environment.safe_install("install", TORCH).returncode == 0
    assert errors(environment) == {}


def test_metadata_without_files_and_what_brings_them_back(environment):
    shutil.rmtree(environment.site / "torch")
    found = errors(environment)["torch-files-missing"]
    assert "torch 1.8.1+cu111 is recorded in" in found
    assert "safe-install install --force-reinstall torch==1.8.1+cu111" in found
    done = environment.safe_install("install", "--force-reinstall", TORCH)
    assert done.returncode == 0, done.stderr
    assert errors(environment) == {}
