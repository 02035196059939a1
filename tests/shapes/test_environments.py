"""One cycle in every kind of environment: replace, uninstall, undo both; exactly as before each
time.

Rolling back, and being killed, is in test_mounts (overlayfs) and in tests/crash.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.functional.conftest import run_process
from tests.shapes.conftest import (
    PYTHON,
    TOOL,
    Place,
    make_plain_python,
    mounted,
    need_mounts,
    need_plain_layout,
    need_python,
    need_uv,
    other_user,
    put,
    put_torch,
    run,
)
from tests.treehash import hash_tree, read_tree


def read(environment, root=None):
    return read_tree(root or environment.prefix, times=False)


def cycle(environment, *options, root=None):
    """alpha 1.0 and a torch that needs it are there. Everything is taken back in the end."""
    before = read(environment, root)
    environment.must("install", *options, "-q", "alpha==1.5")
    assert environment.ask("import alpha, alpha.only_15; print(alpha.version)") == "1.5"
    assert "only_10" in environment.ask("import alpha.only_10")
    middle = read(environment, root)
    take_back(environment, *options, states=(middle, before), root=root)


def take_back(environment, *options, states, root=None):
    """Uninstall everything, then undo step by step."""
    environment.must("uninstall", "-y", "alpha", "torch")
    for expected in states:
        environment.must("undo", *options)
        assert read(environment, root) == expected


def test_copies_behind_a_symbolic_link(tmp_path, variables):
    run(need_python(), "-m", "venv", "--copies", "--without-pip", str(tmp_path / "real"))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    environment = Place(tmp_path / "link", variables)
    put(environment.site)
    put_torch(environment.site)
    cycle(environment, root=tmp_path / "real")


def test_what_the_system_has_below_is_hidden_and_never_removed(tmp_path, variables):
    base = make_plain_python(tmp_path / "base")
    system = Place(base, variables)
    put(system.site)
    run(
        str(system.executable),
        "-m",
        "venv",
        "--without-pip",
        "--system-site-packages",
        str(tmp_path / "env"),
    )
    environment = Place(tmp_path / "env", variables)
    before, below = environment.tree(), hash_tree(base)
    refused = environment.safe_install("uninstall", "-y", "alpha")
    assert (refused.returncode, environment.tree()) == (0, before)
    assert f"outside environment {environment.prefix}" in refused.stderr
    environment.must("install", "-q", "alpha==1.5")
    assert environment.ask("import alpha; print(alpha.version)") == "1.5"
    environment.must("undo")
    assert environment.ask("import alpha; print(alpha.version)") == "1.0"
    assert (environment.tree(), hash_tree(base)) == (before, below)


def test_uvs_cache_is_never_written_through_a_hard_link(tmp_path, variables, wheels):
    uv, cache = need_uv(), tmp_path / "cache"
    told = {**variables, "UV_CACHE_DIR": str(cache), "UV_NO_CONFIG": "1"}
    add = [
        "pip",
        "install",
        "-q",
        "--no-index",
        "--find-links",
        str(wheels),
        "--link-mode",
        "hardlink",
    ]
    run(uv, "venv", "-q", "--python", need_python(), str(tmp_path / "env"), env=told)
    environment = Place(tmp_path / "env", told)
    run(uv, *add, "--python", str(environment.executable), "alpha==1.0", "torch", env=told)
    shared = environment.site / "alpha" / "__init__.py"
    assert shared.stat().st_nlink > 1, "uv did not make hard links: the test shows nothing"
    cache = next(cache.glob("archive-*"))  # the rest is uv's own to write
    before = hash_tree(cache, times=True)
    cycle(environment)
    assert (hash_tree(cache, times=True), shared.stat().st_nlink > 1) == (before, True)
    # What is removed, taken back, and meanwhile linked into another environment is still the same.
    environment.must("uninstall", "-y", "torch")
    environment.must("undo")
    run(uv, "venv", "-q", "--python", need_python(), str(tmp_path / "other"), env=told)
    run(
        uv,
        *add,
        "--python",
        str(tmp_path / "other" / "bin" / "python"),
        "torch",
        "alpha==1.0",
        env=told,
    )
    last = environment.document("history")["details"]["history"][0]["id"]
    again = environment.safe_install("undo", last)
    assert again.returncode == 0, again.stderr
    environment.must("history", "--prune", "--keep", "1")
    assert hash_tree(cache, times=True) == before


# --- conda ----------------------------------------------------------------------------------------


@pytest.fixture
def conda(tmp_path, variables):
    """A prefix as conda makes it: no virtual environment, a folder conda-meta, INSTALLER says
    conda."""
    need_plain_layout()
    environment = Place(make_plain_python(tmp_path / "env"), variables)
    write_conda(environment, "libalpha", put(environment.site, installer="conda").metadata_path)
    return environment


def write_conda(environment, name, info):
    folder = environment.prefix / "conda-meta"
    folder.mkdir(exist_ok=True)
    files = [str(path.relative_to(environment.prefix)) for path in info.iterdir()]
    (folder / f"{name}-1.0-0.json").write_text(
        json.dumps({"name": name, "version": "1.0", "files": files}, indent=2)
    )
    (folder / "history").write_text("==> 2026-01-01 <==\n")


@pytest.mark.parametrize(
    ("words", "installer"),
    [(["install", "alpha==1.5"], "conda"), (["uninstall", "-y", "alpha"], "pip")],
    ids=str,
)
def test_what_conda_installed_is_refused_with_the_way_out(conda, words, installer):
    (conda.site / "alpha-1.0.dist-info" / "INSTALLER").write_text(installer)
    before = conda.tree()
    refused = conda.safe_install(*words)
    assert (refused.returncode, conda.tree()) == (11, before)
    assert "conda installed alpha" in refused.stderr
    assert f"conda remove --force --prefix {conda.prefix} libalpha" in refused.stderr
    assert not list((conda.prefix / ".safe-install").glob("txn-*"))


def test_pips_own_in_a_conda_prefix_is_changed_as_everywhere(conda):
    put_torch(conda.site)
    before = conda.tree()
    conda.must("uninstall", "-y", "torch")
    conda.must("undo")
    assert conda.tree() == before


# --- the system's own, and the user's -------------------------------------------------------------


def test_the_user_site_is_a_place_of_its_own(tmp_path, variables):
    base = make_plain_python(tmp_path / "base")
    environment = Place(base, variables)
    user = Path(variables["HOME"]) / ".local"
    put_torch(user / "lib" / f"python{PYTHON}" / "site-packages")
    put(user / "lib" / f"python{PYTHON}" / "site-packages")
    below, before = hash_tree(base), read(environment, user)
    environment.must("install", "-q", "--user", "alpha==1.5")
    take_back(environment, "--user", states=(read(environment, user), before), root=user)
    assert hash_tree(base) == below
    assert environment.safe_install("history").stdout.startswith("No transactions")


def test_another_user_changes_nothing_of_an_image(tmp_path, variables, shared):
    need_plain_layout()
    nobody = other_user()
    folder = Path(run("mktemp", "-d", "/tmp/shape-XXXXXX").stdout.strip())
    try:
        folder.chmod(0o755)
        environment = Place(make_plain_python(folder / "usr"), variables)
        put(environment.site)
        environment.must("uninstall", "-y", "alpha")
        environment.must("undo")
        home = folder / "home"
        home.mkdir()
        if (shared / "shape-cache").is_dir():  # pip, unpacked and compiled
            run("cp", "-a", str(shared / "shape-cache"), f"{home}/c")
        run("chown", "-R", "65534:65534", str(home))
        theirs = {
            **environment.variables,
            "HOME": str(home),
            "TMPDIR": "/tmp",
            "SAFE_INSTALL_CACHE_DIR": f"{home}/c",
        }
        command = [*nobody, *TOOL]
        before = read_tree(environment.prefix)

        def say(*words, **more):
            return run_process([*command, *words], {**theirs, **more}, cwd="/")

        for words in (["uninstall", "-y", "alpha"], ["undo"], ["history", "--prune"]):
            refused = say(*words)
            assert refused.returncode == 11, (words, refused.stderr)
            assert "belongs to another user" in refused.stderr, words
            assert "--user" in refused.stderr, words
        installed = say("install", "-q", "alpha==1.5")  # pip's rule: the user site, then
        assert installed.returncode == 0, installed.stderr
        assert (home / ".local" / "lib" / f"python{PYTHON}" / "site-packages" / "alpha").is_dir()
        assert say("undo", "--user").returncode == 0
        assert not (
            home / ".local" / "lib" / f"python{PYTHON}" / "site-packages" / "alpha"
        ).exists()
        nowhere = say("install", "-q", "alpha==1.5", HOME="/nonexistent")
        assert (nowhere.returncode, "cannot be made" in nowhere.stderr) == (11, True)
        assert read_tree(environment.prefix) == before
    finally:
        shutil.rmtree(folder)


DEBIAN = "/usr/bin/python3"


def test_debians_python(tmp_path, variables, wheels):
    """In a private overlay over /usr: the real one is not touched."""
    need_mounts()
    marked = list(Path("/usr/lib").glob("python3.*/EXTERNALLY-MANAGED"))
    if not marked or not os.path.isdir("/usr/lib/python3/dist-packages"):
        pytest.skip("no Python of Debian's here")
    told = {
        **variables,
        "VIRTUAL_ENV": "",
        "SHAPE": str(tmp_path),
        "PYTHON": sys.executable,
        "TOOL": TOOL[-1],
    }
    script = tmp_path / "debian.sh"
    script.write_text(DEBIAN_STORY)
    mounts = [
        f"mount -t tmpfs tmpfs {tmp_path / 'tmp'}",
        f"mkdir {tmp_path / 'tmp'}/up {tmp_path / 'tmp'}/work",
        "mount -t overlay overlay -o "
        f"lowerdir=/usr,upperdir={tmp_path}/tmp/up,workdir={tmp_path}/tmp/work /usr",
    ]
    done = mounted(
        mounts, ["bash", "-e", str(script)], env=told, marker=tmp_path / "marker", cwd=str(tmp_path)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines == [
        "refused 1",
        "1.0 /usr/local",
        "left alone 0",
        "same",
        "the system's again",
    ]


DEBIAN_STORY = """
si() { "$PYTHON" -c "$TOOL" "$1" --python /usr/bin/python3 "${@:2}"; }
ask() { /usr/bin/python3 -B -c "$1"; }
where='import alpha; print(alpha.version, "/".join(alpha.__file__.split("/")[:3]))'
cp "$PIP_FIND_LINKS"/*.whl "$SHAPE/home"; export PIP_FIND_LINKS="$SHAPE/home"
# A distribution of the system's, where apt puts it.
system=/usr/lib/python3/dist-packages; mkdir $system/alpha $system/alpha-0.9.dist-info
echo 'version = "0.9"' > $system/alpha/__init__.py
printf 'Metadata-Version: 2.1\\nName: alpha\\nVersion: 0.9\\n' > $system/alpha-0.9.dist-info/METADATA
count() { find /usr/local /usr/lib/python3/dist-packages -not -name '*.pyc' -not -name __pycache__ | sort | md5sum; }
before=$(count)
si install -q alpha==1.0 2>/dev/null || echo "refused $?"
si install -q --break-system-packages alpha==1.0; ask "$where"
si undo >/dev/null
si uninstall -y --break-system-packages alpha 2>"$SHAPE/told"; echo "left alone $?"
grep -q "outside environment /usr" "$SHAPE/told"
[ "$before" = "$(count)" ] && echo same
[ "$(ask 'import alpha; print(alpha.version)')" = 0.9 ] && echo "the system's again"
"""
