"""What the person wrote, as the plan takes it: hashes, and the index of a torch."""

from __future__ import annotations

import pytest

from safe_install.errors import Refused
from safe_install.events import Reporter
from safe_install.models import Action, Plan, Step
from safe_install.pipeline.selection import Planner, local_sources
from safe_install.ports import Timings, World
from safe_install.resolve.command_line import split_words
from safe_install.resolve.request import parse_install
from tests.factories import make_environment

CUDA_INDEX = "https://download.pytorch.org/whl/cu130"


def plan_of(tmp_path, *argv, files=None, torch=None, configuration=None):
    request = parse_install(
        split_words(argv), environ={}, configuration=configuration or {}, read=lambda name: (files or {})[name]
    )
    world = World({}, Reporter(), tmp_path / "cache", ())
    return Planner(request, make_environment(torch=torch), None, world, Timings(), tmp_path / "work")


def test_a_hash_in_a_line_for_another_python_is_no_promise(tmp_path):
    """As pip-compile and poetry write it: one line for each version."""
    lines = (
        f'demo==1.0 ; python_version < "3.9" --hash=sha256:{"a" * 64}\n'
        f'demo==2.0 ; python_version >= "3.9" --hash=sha256:{"b" * 64}\n'
        f'other==1.0 ; python_version < "3.9" --hash=sha512:{"c" * 128}\n'
        f"./folder/third-1.0-py3-none-any.whl --hash=sha256:{'d' * 64}\n"
    )
    planner = plan_of(tmp_path, "-r", "r.txt", files={"r.txt": lines})
    assert planner.own_hashes("demo") == ("b" * 64,)
    assert [entry.text.split()[0] for entry in planner._entries_with_hashes("demo")] == ["demo==2.0"]
    assert planner._entries_with_hashes("other") == []


@pytest.mark.parametrize(
    ("words", "is_asked_for"),
    [
        (["torch"], False),
        (["torch", "--index-url", CUDA_INDEX], True),
        (["torch", "--extra-index-url", CUDA_INDEX], True),
        (["torch", "--extra-index-url", "https://download.pytorch.org/whl/cu126"], False),
        (["torch", "-f", "folder/cu130/"], True),
        (["torch", "-i", "file:///folder/cu130"], True),
    ],
)
def test_the_index_of_an_accelerator_asks_for_it(tmp_path, words, is_asked_for):
    planner = plan_of(tmp_path, *words, torch="2.13.0+cpu")
    plan = Plan((Step(Action.REPLACE, "torch", "2.14.1+cu130", from_version="2.13.0+cpu"),))
    if is_asked_for:
        planner._check_torch_change(plan)
        assert [finding.check for finding in planner.torch_findings] == ["torch-accelerator"]
    else:
        with pytest.raises(Refused, match="in its place is one for cu130"):
            planner._check_torch_change(plan)


@pytest.mark.parametrize(
    "word",
    [
        "./folder/torch-2.12.0+cpu-cp311-cp311-linux_x86_64.whl",
        "torch-2.12.0+cpu-cp311-cp311-linux_x86_64.whl",
        "https://download.pytorch.org/whl/cpu/torch-2.12.0%2Bcpu-cp311-cp311-linux_x86_64.whl",
        "torch==2.12.0",
    ],
)
def test_an_older_torch_is_named_by_its_file_too(tmp_path, word):
    planner = plan_of(tmp_path, word, torch="2.13.0+cpu")
    planner._check_torch_change(
        Plan((Step(Action.REPLACE, "torch", "2.12.0+cpu", from_version="2.13.0+cpu"),)),
    )
    assert planner.torch_findings == ()


@pytest.mark.parametrize(
    ("constraints", "requested", "expected"),
    [("dep @ file:///d/dep-1.0.whl\n", False, True), ("dep==1.0\n", False, False), ("", True, True)],
)
def test_a_file_of_this_machine_is_promised_where_the_person_wrote_it(tmp_path, constraints, requested, expected):
    """As a requirement or as a constraint; what a wheel requires by its address is another's word."""
    planner = plan_of(tmp_path, "base", "-c", "c.txt", files={"c.txt": constraints})
    url = "file:///d/dep-1.0.whl"
    step = Step(Action.ADD, "dep", "1.0", url=url, sha256="1" * 64, requested=requested, is_direct=True)
    assert planner.is_promised(step) is expected


@pytest.mark.parametrize(
    ("words", "files", "because"),
    [
        (["torch", "-r", "r.txt"], {"r.txt": "torch<2.13"}, ": r.txt, line 1: torch<2.13"),
        (["torch", "-c", "c.txt"], {"c.txt": "torch<2.13"}, ": c.txt, line 1: torch<2.13"),
        (["torch", 'torch<2.13; python_version < "3"'], {}, ""),
        (["torch>=1", "--pre"], {}, ""),
        (["--force-reinstall", "torch"], {}, ""),
        (["-U", "torch[opt-einsum]", "old"], {}, ": old 1.0 requires torch<2.13"),
    ],
)
def test_only_the_command_line_names_an_older_torch(tmp_path, words, files, because):
    planner = plan_of(tmp_path, *words, files=files, torch="2.13.0+cpu")
    torch = Step(Action.REPLACE, "torch", "2.12.0+cpu", from_version="2.13.0+cpu", requires=("x",))
    old = Step(Action.ADD, "old", "1.0", requires=("torch<2.13; python_version > '3'",))
    plan = Plan((torch, old) if "old" in words else (torch,))
    with pytest.raises(Refused) as raised:
        planner._check_torch_change(plan)
    assert raised.value.message == f"torch 2.13.0+cpu would become the older 2.12.0+cpu{because}"


@pytest.mark.parametrize("option", ["--index-url", "--extra-index-url", "--find-links"])
def test_an_index_that_is_only_configured_asks_for_no_accelerator(tmp_path, option):
    plan = Plan((Step(Action.REPLACE, "torch", "2.14.1+cu130", from_version="2.13.0+cpu"),))
    in_file = plan_of(
        tmp_path / "a", "torch", "-r", "r.txt", files={"r.txt": f"{option} {CUDA_INDEX}"}, torch="2.13.0+cpu"
    )
    configured = plan_of(tmp_path / "b", "torch", configuration={option[2:]: CUDA_INDEX}, torch="2.13.0+cpu")
    for planner in (in_file, configured):
        with pytest.raises(Refused, match="in its place is one for cu130"):
            planner._check_torch_change(plan)


def test_a_name_whose_marker_does_not_hold_releases_nothing(tmp_path):
    planner = plan_of(tmp_path, 'torch; python_version < "3"', "six", torch="2.13.0+cpu")
    assert planner.released_by(Plan()) == set()
    assert planner._constraints() == ("torch==2.13.0+cpu",)


def test_the_folders_of_sources_that_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("project", "other", "third", "six"):
        (tmp_path / name).mkdir()
    words = ["six", "./project[extra]", "-e", "./other", f"third @ {(tmp_path / 'third').as_uri()}", "git+https://h/x"]
    request = parse_install(split_words(words), environ={}, configuration={}, read=lambda name: "")
    assert sorted(path.name for path in local_sources(request)) == ["other", "project", "third"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("six", True),
        ("torch==2.13.0+cpu", True),
        ("./torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl", True),
        ("torch @ https://h/whl/torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl", True),
        ("six @ git+ssh://git@h/six", False),
        ("git+https://h/six#egg=six", False),
    ],
)
def test_what_may_use_ssh_is_run_in_no_user_namespace(tmp_path, word, expected):
    protection = plan_of(tmp_path, word)._protection()
    assert protection.in_user_namespace == expected
    assert protection.folders
