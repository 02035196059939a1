"""`safe-install explain torch ...` as a process: offline in time, here and elsewhere, and through
wheel hosts."""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys

import pytest

from tests.functional.conftest import CLOSED, read_document, run_safe_install
from tests.lab.warm import run_cold
from tests.variables import keep_variables, without_measuring
from tests.wheelhost import HOSTS, WheelHost

MACHINE = (
    "--target-driver",
    "560.35",
    "--target-gpu",
    "8.0",
    "--python-version",
    "3.11",
    "--platform",
    "linux_x86_64",
)
FOUR = ("torch", "torchvision", "torch-scatter", "flash-attn")


@pytest.fixture
def variables(tmp_path):
    return {
        **keep_variables("PATH", "HOME"),
        "SAFE_INSTALL_CACHE_DIR": str(tmp_path / "cache"),
        "SAFE_INSTALL_MIRRORS": " ".join(f"{start}={CLOSED}" for start in HOSTS),
    }


def explain(variables, *words):
    return run_safe_install(("explain", *words), variables)


@pytest.mark.parametrize("platform", ["manylinux_2_28_aarch64", "win_amd64", "macosx_14_0_arm64"])
def test_what_is_not_known_here_is_not_denied(variables, platform):
    """There are wheels of torchvision for these platforms; the bundled facts list none."""
    words = ("torch", "torchvision", "--python-version", "3.11", "--platform", platform)
    asked = explain(variables, *words, "--offline")
    assert asked.returncode == 10
    assert " has a wheel of torchvision is not known here" in asked.stderr
    assert "Leave --offline out to ask the hosts." in asked.stderr
    silent = explain(variables, *words)
    assert silent.returncode == 10
    assert " has a wheel of torchvision is not known here" in silent.stderr
    hosts = "download.pytorch.org, pypi.org"
    assert f"Try again when these hosts answer: {hosts}." in silent.stderr


def test_four_together_offline(variables):
    answer = read_document(explain(variables, *FOUR, *MACHINE, "--offline", "--json"))
    assert (answer["exit_code"], answer["outcome"]) == (0, "explained")
    steps = {step["name"]: step for step in answer["plan"]["steps"]}
    assert list(steps) == list(FOUR)
    torch = answer["details"]["torch"]
    assert steps["torch"]["version"] == torch["version"].partition("+")[0]
    assert torch["accelerator"].startswith("cu12"), "the driver serves CUDA 12"
    for name in FOUR[1:]:
        assert steps[name]["url"].startswith("https://"), name
    reasons = {row["torch"]: row["reason"] for row in answer["details"]["not_taken"]}
    assert "needs driver 580.65.06 or newer, declared is 560.35" in reasons["2.15.0+cu132"]
    assert answer["details"]["command"].startswith("safe-install ")


def test_four_together_while_no_host_answers(variables):
    """As offline, and each silent host is named: nothing is fetched."""
    offline = explain(variables, *FOUR, *MACHINE, "--offline")
    silent = explain(variables, *FOUR, *MACHINE)
    assert (silent.returncode, silent.stdout) == (0, offline.stdout), silent.stderr
    assert "only what is known here of data.pyg.org counts: it does not answer" in silent.stderr


def test_of_each_release_the_build_for_the_oldest_driver_is_named(variables):
    words = ("torch", "--target-driver", "450", "--python-version", "3.13")
    details = read_document(
        explain(variables, *words, "--platform", "linux_x86_64", "--offline", "--json")
    )["details"]
    needs_525 = {
        row["torch"].partition("+")[0]
        for row in details["not_taken"]
        if "needs driver 525." in row["reason"]
    }
    named = {
        version.partition("+")[0]: row["reason"]
        for row in details["not_taken_releases"]
        for version in row["torch"]
    }
    assert needs_525
    assert all("needs driver 525." in named[release] for release in needs_525)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [FOUR, ("torch", "torch-scatter", "mmcv-full", "detectron2", "xformers")]
)
def test_offline_it_takes_less_than_six_tenths_of_a_second(variables, words):
    """Of the processor; half of it more is left. What else the machine does does not count. The
    second has no answer: then each torch that may come is asked about."""
    took = []
    variables = without_measuring(variables)
    for _ in range(3):
        before = os.times()
        completed = run_cold(["explain", *words, *MACHINE, "--offline"], variables)
        after = os.times()
        took.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
        assert completed.returncode in (0, 10), completed.stderr
    assert 0 < statistics.median(took) < 0.9, took


def test_names_that_exclude_each_other(variables):
    completed = explain(
        variables, "torch==2.9.1", "torch==2.8.0", "torchvision", *MACHINE, "--offline", "--json"
    )
    answer = json.loads(completed.stdout)
    assert completed.returncode == answer["exit_code"] == 10
    assert answer["details"]["conflict"] == {
        "wishes": ["torch==2.9.1", "torch==2.8.0"],
        "ways": [
            {"without": ["torch==2.8.0"], "torch": "2.9.1+cu128"},
            {"without": ["torch==2.9.1"], "torch": "2.8.0+cu128"},
        ],
        "is_open": False,
    }


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="the newest torch has no wheel for this Python"
)
def test_an_environment_without_torch(variables, tmp_path):
    """Through hosts in their own layouts: the newest torch of which the page lists a wheel for this
    Python."""
    folder = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = "cp" + "".join(map(str, sys.version_info[:2]))
    other = "cp39" if python != "cp39" else "cp310"
    folder_of_torch = "torch-2.14.1%2Bcu130"
    platform = "manylinux_2_17_x86_64.manylinux2014_x86_64"
    with WheelHost() as host:
        host.add_pyg_page(
            "2.15.0",
            "cu132",
            {f"torch_scatter-2.1.3+pt215cu132-{other}-{other}-{platform}.whl": b""},
        )
        host.add_pyg_page(
            "2.14.1",
            "cu130",
            {f"torch_scatter-2.1.3+pt214cu130-{python}-{python}-{platform}.whl": b""},
        )
        asked = {**variables, "SAFE_INSTALL_MIRRORS": host.mirrors}
        completed = explain(asked, "torch", "torch-scatter", "--python", str(folder))
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.splitlines() == [
        "torch 2.14.1+cu130 (requested)",
        "  https://pypi.org/simple/torch/",
        "  not taken:",
        "    2.15.0+cu132: no torch-scatter that fits was built for it",
        "torch-scatter 2.1.3+pt214cu130 (requested)",
        "  "
        f"https://data.pyg.org/whl/{folder_of_torch}/torch_scatter-2.1.3%2Bpt214cu130-{python}-{python}-{platform}.whl",
        f"  found in https://data.pyg.org/whl/{folder_of_torch}.html",
        "Install with: python -m safe_install "
        f"--python {shlex.quote(str(folder))} torch==2.14.1 torch-scatter",
    ]


def test_the_index_that_pip_is_set_up_for(variables, tmp_path):
    """A company's index that ends before pypi.org: by pip's configuration, and by option."""
    variables = {**variables, "PIP_CONFIG_FILE": os.devnull}
    folder = tmp_path / "simple" / "torch"
    folder.mkdir(parents=True)
    for version in ("2.13.0", "2.12.1"):
        (folder / f"torch-{version}-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    machine = ("--python-version", "3.11", "--platform", "manylinux_2_28_x86_64")
    index = str(tmp_path / "simple")
    by_option = explain(variables, "torch", *machine, "--offline", "--index-url", index)
    assert by_option.returncode == 0, by_option.stderr
    lines = by_option.stdout.splitlines()
    assert lines[0] == "torch 2.13.0+cu130 (requested)"
    assert f"no wheel of it for Python 3.11 on linux_x86_64 is in {index}" in by_option.stdout
    assert lines[-1].endswith(f"--index-url {index} torch==2.13.0")
    by_configuration = explain({**variables, "PIP_INDEX_URL": index}, "torch", *machine)
    assert by_configuration.stdout.splitlines()[0] == lines[0], by_configuration.stderr
    assert "--index-url" not in by_configuration.stdout
    far = {**variables, "PIP_INDEX_URL": "https://company.example/simple"}
    unasked = explain(far, "torch", *machine, "--offline")
    assert "torch: https://company.example/simple was not asked (--offline)" in unasked.stderr
    none = explain(variables, "torch", *machine, "--no-index")
    assert none.returncode == 10
    assert "--no-index leaves no place where it could be" in none.stderr
