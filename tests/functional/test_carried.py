"""torch moves in an environment that has extensions: they go along, or hold it back, and undo puts
all back."""

from __future__ import annotations

import pytest

from tests.functional.test_joint_plan import environment, pip_runs, put, two_torches, vision  # noqa: F401 - fixtures
from tests.lab.wheels import Torch, build_torch_and_scatter, write_wheel

OLD, NEW = "2.1.2+pt213cu130", "2.1.2+pt214cu130"
TAG = "cp311-cp311-manylinux_2_28_x86_64"
WAY_OUT = "To let torch move all the same: safe-install uninstall torch-scatter torchvision."


@pytest.fixture
def torch_213(environment, host, tmp_path):  # noqa: F811 - fixtures
    """torch 2.13.0 with torch-scatter and torchvision installed, and 2.14.1 on the package
    index."""
    environment.variables["FAKE_DRIVER_CUDA"] = "13.0"
    wheels = {}
    for release, scatter in (("2.13.0", OLD), ("2.14.1", NEW)):
        build_torch_and_scatter(
            tmp_path / release, "3.11", Torch(f"{release}+cu130", release, "13.0"), scatter
        )
        put(host, *(tmp_path / release).glob("torch-*.whl"))
        (wheels[release],) = (tmp_path / release).glob("torch_scatter-*.whl")
    old_vision = vision(tmp_path, "0.28.0", requires=["torch==2.13.0"])
    put(host, old_vision)
    environment.must_pip("install", "torch==2.13.0", str(wheels["2.13.0"]), str(old_vision))
    return wheels


@pytest.fixture
def all_for_214(torch_213, host, tmp_path):
    """A wheel of each for 2.14.1; that of torchvision requires something."""
    wheel = torch_213["2.14.1"]
    host.add_pyg_page("2.14.0", "cu130", {wheel.name: wheel.read_bytes()})
    needed = write_wheel(tmp_path, "needed", "1.0", {"needed.py": ""})
    put(host, needed, vision(tmp_path, "0.29.1", requires=["torch==2.14.1", "needed"]))


def versions(environment):  # noqa: F811 - fixtures
    return dict(line.split("==") for line in environment.versions() if "==" in line)


def test_what_was_built_for_the_torch_of_today_goes_along(environment, host, all_for_214):  # noqa: F811 - fixtures
    before = environment.tree()
    document = environment.document("-U", "torch")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document["findings"]
    steps = {step["name"]: step for step in document["plan"]["steps"]}
    assert {name: step["version"] for name, step in steps.items()} == {
        "torch": "2.14.1",
        "torch-scatter": NEW,
        "torchvision": "0.29.1",
        "needed": "1.0",
    }
    for name in ("torch-scatter", "torchvision"):
        assert steps[name]["because"].startswith("built for torch 2.13.0+cu130, from file://")
        assert not steps[name]["requested"]
    assert pip_runs(host) == 3, "by plain pip before, and twice"
    (info,) = environment.prefix.glob("lib/python3*/site-packages/torch_scatter-*.dist-info")
    assert (info / "REQUESTED").is_file(), "it was named once"
    assert environment.ask("import torch_scatter; print('loads')") == "loads"
    undone = environment.document("undo")
    assert (undone["exit_code"], undone["outcome"]) == (0, "undone"), undone["findings"]
    assert environment.tree() == before


def test_the_installed_torch_stays_where_an_extension_has_no_newer_wheel(environment, torch_213):  # noqa: F811
    before = environment.tree()
    done = environment.safe_install("-U", "torch")
    assert done.returncode == 0, done.stdout + done.stderr
    line = "torch 2.14.1: no torch-scatter was built for it; 2.13.0 stays"
    assert line in done.stdout + done.stderr
    assert "Uninstall what holds it back." in done.stdout + done.stderr
    assert environment.tree() == before


def test_what_is_offered_works_when_it_is_typed(environment, torch_213):  # noqa: F811 - fixtures
    """torchvision requires the torch of today, and to leave it as it is is refused: offered is that
    only where nothing that stays requires another torch."""
    assert environment.document("-U", "--keep-extensions", "torch")["exit_code"] == 11
    hint = environment.document("torch==2.14.1")["error"]["hint"]
    _, _, command = hint.rstrip(".").rpartition("safe-install ")
    words = command.split()
    assert environment.document(*words, "-y")["exit_code"] == 0
    document = environment.document("--dry-run", "torch==2.14.1")
    assert (document["exit_code"], document["outcome"]) == (0, "planned")


def test_to_keep_it_is_offered_where_that_is_no_contradiction(environment, torch_213):  # noqa: F811 - fixtures
    environment.must_pip("uninstall", "-y", "torchvision")
    hint = environment.document("torch==2.14.1")["error"]["hint"]
    assert hint.endswith("uninstall torch-scatter, or leave it as it is: --keep-extensions.")
    words = ("--dry-run", "torch==2.14.1", "--keep-extensions")
    assert environment.document(*words)["exit_code"] == 0


def test_a_torch_that_is_named_exactly_is_refused_with_the_ways_out(environment, torch_213):  # noqa: F811 - fixtures
    before = environment.tree()
    document = environment.document("torch==2.14.1")
    assert (document["exit_code"], document["error"]["code"]) == (10, "no-candidate"), document
    assert document["error"]["message"].startswith("no torch-scatter fits torch 2.14.1+cu130"), (
        document["error"]
    )
    assert (
        f"torch-scatter {OLD} is installed, built for torch 2.13.0+cu130"
        in document["error"]["message"]
    )
    newest = (
        "The newest torch that has all of torch-scatter, torchvision is the installed one, 2.13.0."
    )
    assert document["error"]["hint"] == f"{newest} {WAY_OUT}"
    assert environment.tree() == before


@pytest.mark.long
def test_keep_extensions_leaves_them_and_permits_nothing(environment, all_for_214):  # noqa: F811 - fixtures
    document = environment.document("-U", "--keep-extensions", "torch")
    assert document["exit_code"] == 11, document
    assert {finding["check"] for finding in document["findings"]} == {"requirement-unmet"}
    environment.must_pip("uninstall", "-y", "torchvision")
    before = environment.tree()
    planned = environment.document("--dry-run", "-U", "--keep-extensions", "torch")
    (finding,) = [one for one in planned["findings"] if one["check"] == "kept-extension"]
    assert (finding["severity"], finding["subject"]) == ("warning", "torch-scatter")
    done = environment.safe_install("-U", "--keep-extensions", "torch")
    assert done.returncode == 12, done.stdout + done.stderr
    warning = f"torch-scatter {OLD} stays as it is, built for torch 2.13.0+cu130"
    assert done.stderr.count(warning) == 1
    assert environment.tree() == before


@pytest.mark.long
def test_torch_that_something_else_moves_takes_them_along(environment, host, all_for_214, tmp_path):  # noqa: F811
    put(host, write_wheel(tmp_path, "base", "1.0", {"base.py": ""}, requires=["torch>=2.14"]))
    assert environment.document("--dry-run", "base")["exit_code"] == 11
    document = environment.document("--allow-torch-change", "base")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document["findings"]
    found = versions(environment)
    assert (found["torch"], found["torch_scatter"], found["torchvision"]) == (
        "2.14.1",
        NEW,
        "0.29.1",
    )


def test_torch_that_something_else_moves_is_held_back_too(environment, host, torch_213, tmp_path):  # noqa: F811
    put(host, write_wheel(tmp_path, "base", "1.0", {"base.py": ""}, requires=["torch>=2.14"]))
    document = environment.document("--allow-torch-change", "base")
    assert document["exit_code"] == 11, document
    assert document["error"]["message"] == (
        "base 1.0 requires torch>=2.14, and the installed torch 2.13.0+cu130 stays: torch 2.14.1: "
        "no torch-scatter was built for it"
    )
    assert document["error"]["hint"] == "Uninstall what holds it back."


def test_an_extension_that_only_another_torch_has_brings_it(
    environment,  # noqa: F811
    host,
    two_torches,  # noqa: F811
):
    """Nothing in the metadata of a torch-scatter names its torch, so pip cannot find it."""
    environment.must_pip("install", "torch==2.14.1")
    assert environment.document("--dry-run", "--no-build", "torch-scatter")["exit_code"] == 10
    document = environment.document(
        "--dry-run", "--no-build", "--allow-torch-change", "torch-scatter"
    )
    assert (document["exit_code"], document["outcome"]) == (0, "planned"), document
    steps = {step["name"]: step["version"] for step in document["plan"]["steps"]}
    assert steps == {"torch": "2.13.0", "torch-scatter": OLD}
