"""The names that this machine knows: which environment is meant, and what is read of it."""

from __future__ import annotations

import sys

import pytest

from safe_install.cli.completion import names as names_module
from safe_install.cli.completion.answer import answer, answer_as_pip
from safe_install.cli.completion.names import NamesOnDisk


def make_environment(folder, *entries, library="lib/python3.11/site-packages"):
    for entry in entries:
        (folder / library / entry).mkdir(parents=True)
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    python = folder / "bin" / "python3"
    python.write_text("")
    python.chmod(0o755)
    return folder


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Environments, each with one distribution that is called as the environment is; `tool` was
    made by pipx, and we run in it."""
    for name in ("named", "variable", "virtual", "conda", "path", "tool", "own"):
        make_environment(tmp_path / name, f"{name}-1.0.dist-info")
    (tmp_path / "tool" / "pipx_metadata.json").write_text("{}")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "tool"))
    return tmp_path


@pytest.mark.parametrize(
    ("python", "variables", "found"),
    [
        ("{named}", {}, "named"),
        ("{named}/bin/python3", {"VIRTUAL_ENV": "{virtual}"}, "named"),
        ("python3", {"PATH": "{path}/bin"}, "path"),
        (None, {"SAFE_INSTALL_PYTHON": "{variable}", "VIRTUAL_ENV": "{virtual}"}, "variable"),
        (None, {"VIRTUAL_ENV": "{virtual}", "CONDA_PREFIX": "{conda}"}, "virtual"),
        (None, {"CONDA_PREFIX": "{conda}"}, "conda"),
        # nobody means the environment of a tool
        (None, {"VIRTUAL_ENV": "{tool}", "CONDA_PREFIX": "{conda}"}, "conda"),
        (None, {"VIRTUAL_ENV": "{tool}", "PATH": "{path}/bin"}, "path"),
    ],
)
def test_the_environment_is_the_one_that_a_command_would_manage(python, variables, found, places):
    folders = {folder.name: str(folder) for folder in places.iterdir()}
    environ = {name: value.format(**folders) for name, value in variables.items()}
    named = python.format(**folders) if python is not None else None
    assert NamesOnDisk(environ).distributions(named) == [found]


def test_it_is_our_own_where_we_are_installed_beside_what_is_managed(places, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(places / "own"))
    assert NamesOnDisk({}).distributions(None) == ["own"]


@pytest.mark.parametrize(
    "library",
    [
        "lib/python3/dist-packages",
        "lib64/python3.11/site-packages",
        "local/lib/python3.11/dist-packages",
    ],
)
def test_debian_has_folders_of_its_own(library, tmp_path):
    make_environment(tmp_path, "Torch_Scatter-2.1.dist-info", library=library)
    assert NamesOnDisk({"VIRTUAL_ENV": str(tmp_path)}).distributions(None) == ["torch-scatter"]


@pytest.mark.parametrize(
    "content", ["", "no JSON", "[]", "{}", '{"sha256": 3}', b"\xff", '{"sha256": {"a": "0"}']
)
def test_a_damaged_index_adds_nothing(content, tmp_path):
    bundled = NamesOnDisk({"XDG_DATA_HOME": str(tmp_path)}).projects()
    pointer = tmp_path / "torch-safe-install" / "wheel-index" / "current.json"
    pointer.parent.mkdir(parents=True)
    pointer.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert NamesOnDisk({"XDG_DATA_HOME": str(tmp_path)}).projects() == bundled


def test_transactions_are_the_committed_ones_newest_first(tmp_path):
    names = ("txn-20261123T101112Z-3f2a", "txn-20261124T101112Z-3f2a", "txn-20261125T101112Z-3f2a")
    for name in names:
        (tmp_path / ".safe-install" / name).mkdir(parents=True)
    for name in names[:2]:
        (tmp_path / ".safe-install" / name / "committed").touch()
    found = NamesOnDisk({"VIRTUAL_ENV": str(tmp_path)}).transactions(None)
    assert found == ["20261124T101112Z-3f2a", "20261123T101112Z-3f2a"]


def test_where_transactions_cannot_be_read_there_are_none(tmp_path):
    (tmp_path / ".safe-install").write_text("no folder")
    assert NamesOnDisk({"VIRTUAL_ENV": str(tmp_path)}).transactions(None) == []


def test_without_the_wheel_index_only_torch_is_offered(monkeypatch, tmp_path):
    monkeypatch.setattr(names_module, "PACKAGE", "safe_install.no_such_package")
    assert NamesOnDisk({"XDG_DATA_HOME": str(tmp_path)}).projects() == ["torch"]


# --- the answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "number", "said"),
    [
        ("pip show torch-", "2", ["torch-scatter"]),
        ("pip unin", "1", ["uninstall"]),
        # the cursor stands before what is written already
        ("pip unin torch-scatter", "1", ["uninstall"]),
        ("pip show ", "2", ["torch-scatter"]),
        ("pip show", "", ["torch-scatter"]),
        ("", "", None),
    ],
)
def test_the_question_as_the_scripts_of_pip_ask_it(words, number, said, tmp_path, capsys):
    make_environment(tmp_path, "torch_scatter-2.1.dist-info")
    environ = {"VIRTUAL_ENV": str(tmp_path), "COMP_WORDS": words, "COMP_CWORD": number}
    assert answer_as_pip(environ) == 0
    told = capsys.readouterr()
    assert told.err == ""
    if said is None:
        assert "install" in told.out.split()
    else:
        assert told.out.split() == said


def test_an_error_of_ours_disturbs_nobody_who_writes(monkeypatch, capsys):
    def fail(self, python):
        raise RuntimeError("a defect")

    monkeypatch.setattr(NamesOnDisk, "distributions", fail)
    assert answer(["uninstall", "x"], {}) == 0
    assert capsys.readouterr() == ("", "")


def test_no_word_at_all_is_the_first_word(capsys):
    assert answer([], {}) == 0
    assert "install" in capsys.readouterr().out.split()
