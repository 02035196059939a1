"""A change that breaks the requirement of another package: pip's way without a torch, consent with
one."""

from __future__ import annotations

import pytest

from tests.functional.conftest import Environment
from tests.lab.wheels import write_wheel
from tests.shapes.conftest import put_torch

SAID = "front 1.0 requires back<2, but you have back 2.0 which is incompatible."


@pytest.fixture
def environment(make_environment, tmp_path) -> Environment:
    """front 1.0 needs back<2, and back 1.0 is there."""
    folder = tmp_path / "wheels"
    write_wheel(folder, "front", "1.0", {"front.py": ""}, requires=["back<2"])
    for version in ("1.0", "2.0", "3.0"):
        write_wheel(folder, "back", version, {"back.py": f"version = {version!r}\n"})
    made = make_environment("3.11", PIP_FIND_LINKS=str(folder), PIP_NO_INDEX="1", PIP_INDEX_URL="")
    made.must_pip(
        "install", "--quiet", "--no-index", "--find-links", str(folder), "front", "back==1.0"
    )
    return made


def give_torch(environment: Environment) -> None:
    """A torch that needs back<3."""
    put_torch(environment.site)
    metadata = environment.site / "torch-2.13.0+cpu.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().rstrip("\n") + "\nRequires-Dist: back<3\n")


@pytest.mark.parametrize("words", [(), ("--quiet",)])
def test_without_torch_it_is_a_warning_as_with_pip(environment, words):
    completed = environment.safe_install("install", "back==2.0", *words)
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr.count(SAID) == 1
    assert environment.ask("import back; print(back.version)") == "2.0"


@pytest.mark.parametrize("words", [("--no-warn-conflicts",), ("--no-deps",)])
def test_pip_is_silent_and_so_are_we(environment, words):
    completed = environment.safe_install("install", "back==2.0", *words)
    assert completed.returncode == 0, completed.stderr
    assert "requires" not in completed.stderr


def test_with_torch_it_needs_consent(environment):
    give_torch(environment)
    refused = environment.safe_install("install", "back==2.0")
    assert refused.returncode == 11
    assert f"after this {SAID}" in refused.stderr
    assert "--no-warn-conflicts" in refused.stderr
    assert environment.ask("import back; print(back.version)") == "1.0"
    allowed = environment.safe_install("install", "back==2.0", PIP_NO_WARN_CONFLICTS="1")
    assert allowed.returncode == 0, allowed.stderr
    assert environment.ask("import back; print(back.version)") == "2.0"


def test_no_consent_breaks_torch(environment):
    give_torch(environment)
    refused = environment.safe_install("install", "back==3.0", "--no-warn-conflicts")
    assert refused.returncode == 11
    assert "torch 2.13.0+cpu requires back<3, but you have back 3.0" in refused.stderr
    assert "--no-warn-conflicts" not in refused.stderr
    assert environment.ask("import back; print(back.version)") == "1.0"
