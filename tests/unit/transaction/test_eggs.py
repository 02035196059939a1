"""The files of what setuptools installed without a RECORD, and the lines of easy-install.pth."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Optional, Sequence

import pytest
from packaging.utils import canonicalize_name

from safe_install.models import InstalledDistribution
from safe_install.transaction.eggs import (
    find_egg_files,
    find_missing_path_file,
    find_path_edits,
    walk_paths,
)
from safe_install.transaction.swap import make_areas
from tests.small_environment import SmallEnvironment
from tests.treehash import read_tree


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def make_egg(metadata: Path, location: Path, *, editable: bool = False) -> InstalledDistribution:
    name = canonicalize_name("old-thing")
    return InstalledDistribution(
        name, "1.0", metadata, location, has_record=False, editable=editable
    )


INFO = "Old_Thing-1.0-py3.11.egg-info"


@pytest.mark.parametrize(
    ("files", "paths", "line"),
    [
        pytest.param(
            {f"{INFO}/installed-files.txt": "../old/a.py\nPKG-INFO\n../../../../bin/tool\n"},
            ("site/INFO", "site/old/a.py", "site/INFO/PKG-INFO", "bin/tool"),
            None,
            id="what it lists",
        ),
        pytest.param(
            {
                f"{INFO}/top_level.txt": "old\nshared\n../evil\n",
                f"{INFO}/namespace_packages.txt": "shared\n",
            },
            ("site/INFO", "site/old", "site/old.py", "site/old.pyc", "site/old.pyo"),
            None,
            id="its packages, without a namespace and without a path",
        ),
        pytest.param(
            {
                f"{INFO}/top_level.txt": "",
                f"{INFO}/entry_points.txt": "[console_scripts]\ntool = old:main\n../x = old:main\n[other]\na = b\n",
            },
            ("site/INFO", "bin/tool"),
            None,
            id="its commands",
        ),
        pytest.param({f"{INFO}/PKG-INFO": ""}, None, None, id="nothing says what it has"),
        pytest.param({INFO: "Name: old-thing\n"}, None, None, id="distutils"),
    ],
)
def test_the_files_of_an_egg_info(
    tmp_path: Path, files: Mapping[str, str], paths: Optional[Sequence[str]], line: Optional[str]
) -> None:
    env = SmallEnvironment(tmp_path / "env")
    write(env.site, files)
    found = find_egg_files(make_egg(env.site / INFO, env.site), make_areas(env.prefix, env.scheme))
    assert (found is None) == (paths is None)
    if found is not None and paths is not None:
        site = str(env.site)
        short = [
            path.replace(f"{site}/{INFO}", "site/INFO").replace(site, "site")
            for path in found.paths
        ]
        assert [path.replace(f"{env.prefix}/", "") for path in short] == list(paths)
        assert found.line == line


def test_an_egg_is_its_folder(tmp_path: Path) -> None:
    env = SmallEnvironment(tmp_path / "env")
    egg = env.site / "old_thing-1.0-py3.11.egg"
    write(egg, {"EGG-INFO/PKG-INFO": "", "old/__init__.py": ""})
    found = find_egg_files(make_egg(egg / "EGG-INFO", egg), make_areas(env.prefix, env.scheme))
    assert found is not None
    assert (found.paths, found.line) == ((str(egg),), "./old_thing-1.0-py3.11.egg")
    assert set(walk_paths(found.paths)) == {
        str(egg / "EGG-INFO" / "PKG-INFO"),
        str(egg / "old" / "__init__.py"),
    }


def make_link(env: SmallEnvironment, source: Path) -> InstalledDistribution:
    write(source, {"old_thing.egg-info/PKG-INFO": "", "old.py": "x = 1\n"})
    write(
        env.site, {"Old.Thing.egg-link": f"{source}\n.", "easy-install.pth": f"/other\n{source}\n"}
    )
    return make_egg(source / "old_thing.egg-info", env.site, editable=True)


def test_a_development_install_goes_and_its_sources_stay(tmp_path: Path) -> None:
    env, source = SmallEnvironment(tmp_path / "env"), tmp_path / "source"
    link = make_link(env, source)
    before, sources = read_tree(env.site), read_tree(source)
    with env.begin() as transaction:
        transaction.plan(remove=[link], keep=[])
        transaction.swap()
        assert not (env.site / "Old.Thing.egg-link").exists()
        assert (env.site / "easy-install.pth").read_text() == "/other\n"
        assert read_tree(source) == sources
        transaction.roll_back()
    assert read_tree(env.site) == before


def test_a_path_file_that_is_gone_is_named(tmp_path: Path) -> None:
    env = SmallEnvironment(tmp_path / "env")
    link, wheel = make_link(env, tmp_path / "source"), env.install("p", "1", {"p.py": ""})
    assert find_missing_path_file(link) is None
    (env.site / "easy-install.pth").rename(env.site / "other.pth")
    assert find_missing_path_file(link) == env.site / "easy-install.pth"
    assert find_missing_path_file(wheel) is None


def test_only_the_line_of_what_goes_leaves_the_file(tmp_path: Path) -> None:
    env = SmallEnvironment(tmp_path / "env")
    areas = make_areas(env.prefix, env.scheme)
    link = make_link(env, tmp_path / "source")
    assert find_path_edits([link], areas) == {str(env.site / "easy-install.pth"): b"/other\n"}
    assert find_path_edits([], areas) == {}
    wheel = env.install("p", "1", {"p.py": ""})
    assert find_path_edits([wheel], areas) == {}


def test_what_another_distribution_lists_stays(tmp_path: Path) -> None:
    env = SmallEnvironment(tmp_path / "env")
    write(
        env.site,
        {f"{INFO}/installed-files.txt": "../mine.py\n../theirs.py\n../../../../../outside.py\n"},
    )
    write(env.site, {"mine.py": "", f"{INFO}/PKG-INFO": ""})
    (tmp_path / "outside.py").write_text("")
    other = env.install("other", "1", {"theirs.py": ""})
    with env.begin() as transaction:
        transaction.plan(remove=[make_egg(env.site / INFO, env.site)], keep=[other])
        transaction.swap()
        transaction.commit({})
    assert sorted(path.name for path in env.site.iterdir()) == ["other-1.dist-info", "theirs.py"]
    assert (tmp_path / "outside.py").exists()


def test_what_is_ignored_gives_up_the_places_of_what_comes(tmp_path: Path) -> None:
    """--ignore-installed: files of the same name change, everything else of the old one stays."""
    env = SmallEnvironment(tmp_path / "env")
    old = env.install("p", "1", {"p/a.py": "1", "p/b.py": "1"})
    before = read_tree(env.prefix)
    with env.begin() as transaction:
        env.stage(transaction, "p", "2", {"p/a.py": "2"})
        transaction.plan(remove=[], keep=[], beside=[old])
        transaction.swap()
        assert [(env.site / name).read_text() for name in ("p/a.py", "p/b.py")] == ["2", "1"]
        assert (env.site / "p-1.dist-info" / "RECORD").exists() and (
            env.site / "p-2.dist-info" / "RECORD"
        ).exists()
        transaction.roll_back()
    after = read_tree(env.prefix)
    assert {path: row for path, row in after.items() if ".safe-install" not in path} == {
        path: row for path, row in before.items() if ".safe-install" not in path
    }


@pytest.mark.parametrize("has_record", [True, False])
def test_what_is_ignored_gives_up_nothing_of_others(tmp_path: Path, has_record: bool) -> None:
    from safe_install.errors import Refused

    env = SmallEnvironment(tmp_path / "env")
    old = env.install("p", "1", {"p.py": "1"})
    if not has_record:
        (old.metadata_path / "RECORD").unlink()
    other = env.install("other", "1", {"theirs.py": "1"})
    with env.begin() as transaction:
        env.stage(transaction, "p", "2", {"p.py": "2", "theirs.py": "2"})
        with pytest.raises(Refused, match="belongs to other"):
            transaction.plan(remove=[], keep=[other], beside=[old])
