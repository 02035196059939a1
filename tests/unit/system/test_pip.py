"""Which pip is run, and what its configuration says."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

from safe_install.system import pip, pip_command, pip_configuration
from safe_install.system.downloads import KeptDownloads
from safe_install.system.pip_command import PipCommand, build_options, select_pip, unpack
from safe_install.system.pip_configuration import read_configuration
from safe_install.system.process import Completed
from tests.factories import make_interpreter

OWN = PipCommand(
    ("/own/python", "-m", "pip", "--python", "/env/bin/python"), Version("25.0"), "ours"
)
CARRIED = Path("/usr/lib/ensurepip/_bundled")


@pytest.mark.parametrize(
    ("installed", "carried", "origin", "version"),
    [
        ("23.0", None, "environment", "23.0"),
        ("26.3", "pip-24.0-py3-none-any.whl", "environment", "26.3"),
        ("22.3.1", None, "ours", "25.0"),
        ("22.3.1", "pip-24.0-py3-none-any.whl", "ensurepip", "24.0"),
        (None, "pip-23.2.1-py3-none-any.whl", "ensurepip", "23.2.1"),
        (None, "pip-21.1-py3-none-any.whl", "ours", "25.0"),
        ("22.3.1", "pip-22.0.4-py3-none-any.whl", "ours", "25.0"),
        ("not a version", None, "ours", "25.0"),
        (None, "pip-odd-py3-none-any.whl", "ours", "25.0"),
        (None, None, "ours", "25.0"),
    ],
)
def test_select_pip(installed, carried, origin, version):
    interpreter = make_interpreter(
        pip_version=installed, ensurepip_wheel=CARRIED / carried if carried else None
    )
    chosen = select_pip(interpreter, OWN)
    assert (chosen.origin, str(chosen.version)) == (origin, version)
    expected = {
        "environment": ("/env/bin/python", "-m", "pip"),
        "ensurepip": ("/env/bin/python", str(CARRIED / str(carried) / "pip")),
        "ours": OWN.command,
    }
    assert chosen.command == expected[origin]


@pytest.mark.parametrize(
    ("version", "has_wheel", "options"),
    [
        # it would run `setup.py install`, and `pip wheel` fails
        ("23.0.1", False, ("--use-pep517",)),
        ("23.0.1", True, ()),
        ("23.1", False, ()),  # isolates by itself
        ("26.3", True, ()),
    ],
)
def test_how_a_setup_py_becomes_a_wheel(version, has_wheel, options):
    assert build_options(Version(version), has_wheel=has_wheel) == options


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "pip" / "_internal" / "cli.py").unlink(),
        lambda folder: (folder / "pip" / "_internal" / "cli.py").write_text(""),
        lambda folder: (folder / "pip" / "__main__.py").unlink(),
        lambda folder: (folder / "pip-24.0.dist-info" / "METADATA").unlink(),
        lambda folder: shutil.rmtree(folder / "pip"),
        lambda folder: (shutil.rmtree(folder), folder.write_text("")),
    ],
)
def test_an_unpacked_pip_that_lost_files_is_unpacked_again(tmp_path, monkeypatch, damage):
    """tmpwatch and the like remove what was not read for long."""
    monkeypatch.setattr(
        pip_command.process, "run", lambda command, env: Completed(command, 0, "", "", 0.1)
    )
    wheel = tmp_path / "pip-24.0-py3-none-any.whl"
    files = ("pip/__main__.py", "pip/_internal/cli.py", "pip-24.0.dist-info/METADATA")
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in files:
            archive.writestr(name, "x = 1\n")
    found = PipCommand(("python", str(wheel / "pip")), Version("24.0"), "ensurepip")
    interpreter, cache = make_interpreter(), tmp_path / "cache"
    folder = Path(unpack(found, interpreter, cache).command[1]).parent
    stamp = (folder / "pip" / "__main__.py").stat().st_ino
    unpack(found, interpreter, cache)
    assert (folder / "pip" / "__main__.py").stat().st_ino == stamp, "unpacked once"
    damage(folder)
    assert Path(unpack(found, interpreter, cache).command[1]).parent == folder
    assert [(folder / name).read_text() for name in files] == ["x = 1\n"] * 3
    assert [path.name for path in (cache / "pip").iterdir()] == [folder.name]


def test_there_may_be_no_pip_at_all():
    assert select_pip(make_interpreter(), None) is None


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Folders for pip's files, and the variables that lead there."""
    monkeypatch.setattr(pip_configuration, "SYSTEM_FILE", tmp_path / "system.conf")
    variables = {
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_DIRS": str(tmp_path / "xdg"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    files = {
        "global": tmp_path / "xdg" / "pip" / "pip.conf",
        "system": tmp_path / "system.conf",
        "legacy": tmp_path / "home" / ".pip" / "pip.conf",
        "user": tmp_path / "config" / "pip" / "pip.conf",
        "site": tmp_path / "env" / "pip.conf",
        "chosen": tmp_path / "chosen.conf",
    }

    def read(written, environ=None, command="install"):
        for name, text in written.items():
            files[name].parent.mkdir(parents=True, exist_ok=True)
            files[name].write_text(text, encoding="utf-8")
        more = {
            name: value.format(chosen=files["chosen"]) for name, value in (environ or {}).items()
        }
        return dict(read_configuration(tmp_path / "env", {**variables, **more}, command))

    return read


GLOBAL = "[global]\nindex-url = https://{0}\n"
INSTALL = "[install]\nindex-url = https://{0}\n"


@pytest.mark.parametrize(
    ("written", "environ", "url"),
    [
        ({}, {}, None),
        ({"global": GLOBAL.format("global")}, {}, "global"),
        ({"global": GLOBAL.format("global"), "system": GLOBAL.format("system")}, {}, "system"),
        ({"system": GLOBAL.format("system"), "legacy": GLOBAL.format("legacy")}, {}, "legacy"),
        ({"legacy": GLOBAL.format("legacy"), "user": GLOBAL.format("user")}, {}, "user"),
        ({"user": GLOBAL.format("user"), "site": GLOBAL.format("site")}, {}, "site"),
        ({"site": GLOBAL.format("site"), "chosen": GLOBAL.format("chosen")}, {}, "site"),
        (
            {"site": GLOBAL.format("site"), "chosen": GLOBAL.format("chosen")},
            {"PIP_CONFIG_FILE": "{chosen}"},
            "chosen",
        ),
        ({"site": GLOBAL.format("site")}, {"PIP_INDEX_URL": "https://variable"}, "variable"),
        ({"site": GLOBAL.format("site")}, {"PIP_INDEX_URL": ""}, "site"),
        ({"site": GLOBAL.format("site")}, {"PIP_CONFIG_FILE": os.devnull}, None),
        ({}, {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "https://variable"}, "variable"),
        # a chosen file takes the place of the user's, not of the others
        (
            {"user": GLOBAL.format("user"), "chosen": "[global]\n"},
            {"PIP_CONFIG_FILE": "{chosen}"},
            None,
        ),
        ({"user": GLOBAL.format("user")}, {"PIP_CONFIG_FILE": "{chosen}"}, "user"),
        # the command's own section wins, whichever file it stands in
        ({"global": INSTALL.format("own"), "user": GLOBAL.format("user")}, {}, "own"),
        ({"user": "[list]\nindex-url = https://list\n"}, {}, None),
        ({"user": GLOBAL.format("user"), "site": "[global]\nindex-url =\n"}, {}, None),
        ({"user": GLOBAL.format("user"), "site": "not a configuration"}, {}, "user"),
    ],
)
def test_the_order_of_the_places(written, environ, url, place):
    assert place(written, environ).get("index-url") == (url and f"https://{url}")


def test_keys_are_options_names(place):
    text = "[global]\nno_deps = true\n--pre = yes\nUpgrade-Strategy = eager\n[install]\nfind-links =\n  a\n  b\n"
    found = place(
        {"user": text}, {"PIP_NO_BINARY": ":all:", "PIP_CONFIG_FILE": "/missing", "PIPX_HOME": "x"}
    )
    assert found == {
        "no-deps": "true",
        "pre": "yes",
        "upgrade-strategy": "eager",
        "find-links": "\na\nb",
        "no-binary": ":all:",
    }


def test_another_command_has_another_section(place):
    text = "[global]\nyes = 0\n[uninstall]\nyes = 1\n"
    assert place({"user": text}, command="uninstall") == {"yes": "1"}
    assert place({"user": text}) == {"yes": "0"}


@pytest.mark.parametrize("answer", [None, lambda question: "me"])
def test_pip_asks_only_where_somebody_can_answer(answer, tmp_path, monkeypatch):
    ran = []

    def run(command, **options):
        ran.append(options)
        return Completed(list(command), 0, "", "", 0.0)

    monkeypatch.setattr(pip, "select_pip", lambda interpreter, carried: OWN)
    monkeypatch.setattr(pip, "unpack", lambda found, interpreter, cache_dir: found)
    monkeypatch.setattr(pip.process, "run", run)
    monkeypatch.delenv("PIP_NO_INPUT", raising=False)
    runner = pip.PipRunner(make_interpreter(), cache_dir=tmp_path, answer=answer)
    runner.fetch(["a==1"], tmp_path, options=(), on_line=print)
    runner.build("a==1", tmp_path, config_settings=["k=v"], options=(), on_line=print)
    runner.stage_editable("a", root=tmp_path, options=(), on_line=print)
    runner.install_target(["a"], tmp_path, options=())
    for options in ran:
        assert options["answer"] is answer
        assert options["env"].get("PIP_NO_INPUT") == (None if answer else "1")


def test_a_pip_that_is_killed_leaves_nothing_in_the_temporary_folder(tmp_path, monkeypatch):
    """It cannot remove what it has downloaded, and torch has gigabytes."""
    folders = []

    def interrupt(command, *, env, **options):
        folders.append(Path(env["TMPDIR"]))
        (folders[-1] / "pip-unpack-x").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(pip, "select_pip", lambda interpreter, own: OWN)
    monkeypatch.setattr(pip.process, "run", interrupt)
    runner = pip.PipRunner(make_interpreter(), cache_dir=tmp_path)
    kept = KeptDownloads(tmp_path / "downloads")
    runs = [
        lambda: runner.dry_run([], constraints=(), find_links=(), on_output=print, on_error=print),
        lambda: runner.fetch(["a==1"], tmp_path, options=(), on_line=print),
        lambda: runner.build("a==1", tmp_path, config_settings=["k=v"], options=(), on_line=print),
        lambda: runner.stage_editable("a", root=tmp_path, options=(), on_line=print),
        lambda: runner.dry_run(
            [], constraints=(), find_links=(), on_output=print, on_error=print, downloads=kept
        ),
    ]
    for run in runs:
        with pytest.raises(KeyboardInterrupt):
            run()
    assert not any(folder.exists() for folder in folders[:-1])
    assert folders[-1] == kept.temporary, "its owner removes it"
