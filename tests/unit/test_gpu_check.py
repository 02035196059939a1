"""The check for a GPU machine: no step is skipped in silence, and a result is good only when every
step passed."""

from __future__ import annotations

import json
import time
import types
import zipfile

import pytest

from safe_install.wheels.archive import open_wheel
from tests.scripts import load_script

gpu_check = load_script("gpu_check")
harmful = load_script("gpu_checking.harmful")
processes = load_script("gpu_checking.processes")
checks = load_script("gpu_checking.steps")


@pytest.fixture
def steps():
    return types.SimpleNamespace(deadline=time.monotonic() + 60)


def test_the_steps_need_only_steps_that_came_before():
    seen = []
    for name, _, needs in gpu_check.STEPS:
        assert set(needs) <= set(seen), name
        seen.append(name)
    assert len(seen) == len(set(seen))


def test_a_step_whose_condition_failed_is_not_run_and_says_why(steps):
    def fail(_):
        raise processes.StepFailed("is_available() is False")

    first = gpu_check.run_step("torch", fail, (), steps, [])
    assert (first["status"], first["detail"]) == ("failed", "is_available() is False")
    second = gpu_check.run_step("use", lambda _: "computed", ("torch",), steps, [first])
    assert (second["status"], second["detail"]) == ("not run", "needs: torch")
    # What needs the second alone is not run, either.
    third = gpu_check.run_step("undo", lambda _: "undone", ("use",), steps, [first, second])
    assert third["status"] == "not run"
    assert gpu_check.run_step("other", lambda _: "seen", (), steps, [first])["status"] == "passed"


def test_what_comes_after_the_limit_is_not_run():
    late = types.SimpleNamespace(deadline=time.monotonic() - 1)
    result = gpu_check.run_step("torch", lambda _: "fine", (), late, [])
    assert (result["status"], result["detail"]) == ("not run", "the time is over")


@pytest.mark.parametrize("status", ["failed", "not run"])
def test_the_exit_status_is_0_only_when_all_passed(tmp_path, monkeypatch, status, capsys):
    (tmp_path / "manifest.json").write_text(
        json.dumps({"python": "3.12.3", "torch": "2.11.0", "files": {}})
    )
    answers = iter(["passed", status, "passed", "passed"])
    monkeypatch.setattr(gpu_check, "STEPS", (("one", None, ()), ("two", None, ())))
    monkeypatch.setattr(
        gpu_check,
        "run_step",
        lambda name, *_: {"name": name, "status": next(answers), "seconds": 0, "detail": "-"},
    )
    result = tmp_path / "result.json"
    assert gpu_check.main([str(tmp_path), "--result", str(result)]) == 1
    assert json.loads(result.read_text())["passed"] is False
    assert "FAILED: 1 of 2 steps" in capsys.readouterr().out
    assert gpu_check.main([str(tmp_path), "--result", str(result)]) == 0
    assert json.loads(result.read_text())["passed"] is True


def test_another_exit_status_than_promised_names_what_was_seen():
    document = {
        "exit_code": 0,
        "outcome": "installed",
        "error": None,
        "findings": [
            {"severity": "error", "detail": "torch on cuda fails"},
            {"severity": "note", "detail": "no"},
        ],
    }
    assert checks.expect(document, 0, "installed") == "exit status 0, installed"
    with pytest.raises(processes.StepFailed) as caught:
        checks.expect(document, 11, "refused")
    assert str(caught.value) == "exit status 0, installed, not 11, refused; torch on cuda fails"


def test_trees_differ_by_content_time_and_presence():
    before = {"a": (1, 2, 3), "b": (1, 2, 3)}
    assert checks.compare_trees(before, dict(before)) == "all 2 files as before"
    for after in ({"a": (1, 2, 3)}, {**before, "c": (1, 2, 3)}, {**before, "a": (1, 2, 4)}):
        with pytest.raises(processes.StepFailed, match="1 files differ"):
            checks.compare_trees(before, after)


def test_the_harmful_wheels_are_whole(tmp_path):
    harmful.write_harmful(tmp_path)
    wheels = sorted(tmp_path.glob("*.whl"))
    assert [wheel.name.split("-")[0] for wheel in wheels] == ["older_torch_tools", "torch"]
    for wheel in wheels:
        assert open_wheel(wheel)
    metadata = zipfile.ZipFile(wheels[0]).read("older_torch_tools-1.0.dist-info/METADATA").decode()
    assert f"Requires-Dist: torch=={harmful.OTHER_TORCH}" in metadata
