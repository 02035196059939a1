"""pip and uv used by hand between our changes: undo takes back what it can, and harms nothing where it cannot."""

from __future__ import annotations

import pytest

from tests.shapes.conftest import need_python, need_uv, run


def refuse_undo(place, *naming):
    """Refused with everything as it is, the paths named, and the way to the same versions."""
    before = place.tree()
    refused = place.safe_install("undo")
    assert refused.returncode == 11, refused.stdout + refused.stderr
    assert place.tree() == before
    for words in ("cannot be undone", *naming):
        assert words in refused.stderr, (words, refused.stderr)
    return refused.stderr


@pytest.fixture
def place(make_place):
    """alpha 1.5 put in the place of 1.0 by us."""
    found = make_place("alpha==1.0")
    found.must("install", "-q", "alpha==1.5")
    return found


WITHOUT_UNDO = "safe-install install alpha==1.0"


def test_pip_upgraded_it_then_removed_it(place):
    place.must_pip("install", "-q", "alpha==2.0")
    refuse_undo(place, "alpha-1.5.dist-info", WITHOUT_UNDO)
    place.must_pip("uninstall", "-q", "-y", "alpha")
    refuse_undo(place, "alpha-1.5.dist-info", WITHOUT_UNDO)
    assert place.ask("import alpha").startswith("ModuleNotFoundError")
    place.must("install", "-q", "alpha==1.0")  # what the hint says
    assert place.ask("import alpha; print(alpha.version)") == "1.0"
    place.must("undo")  # of that one, which nobody touched


def test_uv_sync(place, tmp_path, wheels):
    uv, project = need_uv(), tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.8"\ndependencies = ["alpha==2.0"]\n'
    )
    told = {**place.variables, "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_PROJECT_ENVIRONMENT": str(place.prefix)}
    words = ["sync", "-q", "--no-index", "--find-links", str(wheels), "--python", need_python()]
    run(uv, *words, env=told, cwd=str(project))
    assert place.ask("import alpha; print(alpha.version)") == "2.0"
    refuse_undo(place, "alpha-1.5.dist-info", WITHOUT_UNDO)


def test_a_file_edited_in_place(place):
    module = place.site / "alpha" / "__init__.py"
    old = module.read_text()
    module.write_text(old + "edited = True\n")
    refuse_undo(place, str(module), "added or edited since")
    module.write_text(old)
    place.must("undo")
    assert place.ask("import alpha; print(alpha.version)") == "1.0"


def test_another_distribution_in_the_same_namespace(make_place):
    place = make_place()
    before = place.tree()
    place.must("install", "-q", "space-one==1.0")
    place.must_pip("install", "-q", "--no-compile", "space-two==1.0")
    place.must("undo")
    assert place.ask("import space.two; print('there')") == "there"
    assert "ModuleNotFoundError" in place.ask("import space.one")
    place.must("undo", newest_id(place))
    assert place.ask("import space.one, space.two; print('both')") == "both"
    place.must("undo", newest_id(place))
    place.must_pip("uninstall", "-q", "-y", "space-two")
    left = place.tree()
    left.pop(str((place.site / "space").relative_to(place.prefix)), None)  # pip leaves the empty folder
    assert left == before


def newest_id(place):
    return place.document("history")["details"]["history"][0]["id"]


def test_a_file_of_the_users_in_the_same_namespace(make_place):
    place = make_place()
    place.must("install", "-q", "space-one==1.0")
    (place.site / "space" / "mine.txt").write_text("mine")
    refuse_undo(place, "mine.txt", "safe-install uninstall space-one")


# --- what is kept ----------------------------------------------------------------------------------


def test_what_was_kept_is_gone(place):
    entry = place.document("history")["details"]["history"][0]
    assert entry["bytes"] > 0
    (stage,) = (place.prefix / ".safe-install").glob("txn-*/stage")
    for path in sorted(stage.rglob("alpha"), key=lambda path: len(path.parts)):
        run("rm", "-rf", str(path))
    told = refuse_undo(place, "no longer kept", WITHOUT_UNDO)
    assert "changed since" not in told


def test_the_newest_is_never_let_go_unasked(place):
    place.must("history", "--prune", "--keep", "1")
    assert len(place.document("history")["details"]["history"]) == 1
    place.must("uninstall", "-y", "alpha")
    pruned = place.must("history", "--prune", "--keep", "1").stdout
    assert pruned.count("removed ") == 1
    assert "MB" in pruned
    (left,) = place.document("history")["details"]["history"]
    assert left["steps"][0]["action"] == "remove"
    place.must("undo")
    assert place.ask("import alpha; print(alpha.version)") == "1.5"
