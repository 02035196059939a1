"""Which words may come next: tables over lines, and the tables here against what they repeat."""

from __future__ import annotations

import pytest

from safe_install.cli.completion.names import NOT_OFFERED, TABLES, NamesOnDisk
from safe_install.cli.completion.words import complete, find_command
from safe_install.index.catalog import TABLES as DOCUMENTS
from safe_install.index.catalog import known_projects, load_project
from safe_install.resolve.command_line import route


class Names:
    """What this machine would know."""

    def projects(self):
        return ["torch", "torch-scatter", "xformers"]

    def distributions(self, python):
        return ["numpy", "torch"] if python is None else [f"of-{python}"]

    def transactions(self, python):
        return ["20261123T101112Z-3f2a"]

    def staged(self, python):
        return ["20261124T101112Z-3f2a"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("unin", ["uninstall"]),
        ("torch-", ["torch-scatter"]),
        ("install x", ["xformers"]),
        ("-U x", ["xformers"]),
        ("--python x explain torch-", ["torch-scatter"]),
        ("wheels x", ["xformers"]),
        ("torch x", ["xformers"]),
        ("uninstall num", ["numpy"]),
        ("uninstall -y num", ["numpy"]),
        ("show --python there ", ["of-there"]),
        ("--python=there show ", ["of-there"]),
        ("undo ", ["20261123T101112Z-3f2a"]),
        ("diff 2026", ["20261123T101112Z-3f2a"]),
        ("diff 20261123T101112Z-3f2a 2", ["20261123T101112Z-3f2a"]),
        ("diff pylock", []),  # files, by the shell
        ("export --at ", ["20261123T101112Z-3f2a"]),
        ("export --at=2026", ["--at=20261123T101112Z-3f2a"]),
        ("commit ", ["20261124T101112Z-3f2a"]),
        ("abandon 2026112", ["20261124T101112Z-3f2a"]),
        ("status --python x ", ["20261124T101112Z-3f2a"]),
        ("stage torch-", ["torch-scatter"]),
        ("stage --find", ["--find-links"]),
        ("check-wheel ", []),  # files: the shell's own
        ("install -r ", []),
        ("install --find-links ", []),
        ("install -q x", ["xformers"]),
        ("verify --req", ["--require-cuda"]),
        ("verify --no", []),
        ("install --no-ro", ["--no-rollback"]),
        ("--no-ro", ["--no-rollback"]),
        ("install --root-user-action w", ["warn"]),
        ("install --root-user-action=w", ["--root-user-action=warn"]),
        ("install --root-user-action = w", ["warn"]),  # as bash takes it apart
        ("install --root-user-action =", ["ignore", "warn"]),
        ("list --outd", ["--outdated"]),
        ("list --no-col", ["--no-color"]),
        ("cache pu", ["purge"]),
        ("cache remove x", []),
        ("help unin", ["uninstall"]),
        ("--show-completion z", ["zsh"]),
        ("explain --cxx11-abi t", ["true"]),
        ("--vers", ["--version"]),
    ],
)
def test_the_words_that_may_come_next(line, expected):
    *words, current = line.split(" ")
    assert complete(words, current, Names()) == expected


@pytest.mark.parametrize(
    "line",
    [
        "torch",
        "-U torch",
        "--python env verify",
        "-r file",
        "freeze",
        "uninstall x",
        "--log x list",
    ],
)
def test_the_command_is_the_one_that_the_program_runs(line):
    chosen = route(line.split())
    expected = (
        chosen.command
        if chosen.command != "pip"
        else next(w for w in chosen.arguments if w in ("freeze", "list"))
    )
    assert (find_command(line.split()) or "install") == expected


def test_the_projects_are_those_of_the_index_that_can_be_installed(tmp_path):
    assert set(TABLES) == DOCUMENTS
    offered = set(NamesOnDisk({"XDG_DATA_HOME": str(tmp_path)}).projects())
    assert offered == {"torch", *known_projects()} - NOT_OFFERED
    for name in NOT_OFFERED:
        assert load_project(name).package_index.holds.value in ("placeholder", "another-project")


def test_a_newer_index_adds_its_projects(tmp_path):
    folder = tmp_path / "torch-safe-install" / "wheel-index"
    folder.mkdir(parents=True)
    (folder / "current.json").write_text(
        '{"sha256": {"new-project": "0", "torch": "0", "$(rm x)": "0"}}', "utf-8"
    )
    offered = NamesOnDisk({"XDG_DATA_HOME": str(tmp_path)}).projects()
    assert "new-project" in offered
    assert not [name for name in offered if "$" in name]


def test_distributions_are_read_without_running_the_interpreter(tmp_path):
    site = tmp_path / "lib" / "python3.9" / "site-packages"
    for name in (
        "Torch_Scatter-2.1.dist-info",
        "old-1.0-py3.9.egg-info",
        "numpy",
        "a;b-1.dist-info",
        "~umpy-1.dist-info",
    ):
        (site / name).mkdir(parents=True)
    names = NamesOnDisk({"VIRTUAL_ENV": str(tmp_path)})
    assert names.distributions(None) == ["old", "torch-scatter"]
    assert names.distributions(str(tmp_path / "bin" / "python")) == ["old", "torch-scatter"]
