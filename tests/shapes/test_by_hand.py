"""pip and uv used by hand between our changes: undo takes back what it can, and harms nothing where
it cannot."""

from __future__ import annotations

import pytest

from tests.shapes.conftest import need_python, need_uv, put, run


def refuse_undo(place, *naming):
    """Refused with everything as it is, the paths named, and the way to the same versions."""
    before = place.tree()
    refused = place.safe_install("undo")
    assert refused.returncode == 11, refused.stdout + refused.stderr
    assert place.tree() == before
    for words in ("cannot be undone", *naming):
        assert words in refused.stderr, (words, refused.stderr)
    return refused.stderr


WITHOUT_UNDO = "safe-install install alpha==1.0"


@pytest.mark.long
def test_another_installer_changed_the_same(make_place, tmp_path, wheels):
    place = make_place()
    put(place.site)
    place.must("install", "-q", "alpha==1.5")
    place.must_pip("install", "-q", "alpha==2.0")
    refuse_undo(place, "alpha-1.5.dist-info", WITHOUT_UNDO)
    place.must_pip("uninstall", "-q", "-y", "alpha")
    refuse_undo(place, "alpha-1.5.dist-info", WITHOUT_UNDO)
    assert place.ask("import alpha").startswith("ModuleNotFoundError")
    sync_by_uv(place, tmp_path / "project", wheels)
    assert place.ask("import alpha; print(alpha.version)") == "2.0"
    refuse_undo(place, "alpha-1.5.dist-info", WITHOUT_UNDO)
    place.must("uninstall", "-y", "alpha")  # we are not held up
    place.must("undo")
    assert place.ask("import alpha; print(alpha.version)") == "2.0"


def sync_by_uv(place, project, wheels):
    uv = need_uv()
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.8"\ndependencies = ["alpha==2.0"]\n'
    )
    told = {
        **place.variables,
        "UV_CACHE_DIR": str(project / "cache"),
        "UV_PROJECT_ENVIRONMENT": str(place.prefix),
    }
    words = ["sync", "-q", "--no-index", "--find-links", str(wheels), "--python", need_python()]
    run(uv, *words, env=told, cwd=str(project))


@pytest.mark.long
def test_a_shared_folder_and_what_others_do_in_it(make_place):
    place = make_place()
    before = place.tree()
    place.must("install", "-q", "space-one==1.0")
    module, mine = place.site / "space" / "one" / "__init__.py", place.site / "space" / "mine.txt"
    old = module.read_text()
    module.write_text("edited")
    refuse_undo(place, str(module), "added or edited since", "safe-install uninstall space-one")
    module.write_text(old)
    mine.write_text("mine")
    refuse_undo(place, str(mine), "added or edited since")
    mine.unlink()
    place.must_pip("install", "-q", "--no-compile", "space-two==1.0")
    place.must("undo")
    assert place.ask("import space.two; print('there')") == "there"
    assert "ModuleNotFoundError" in place.ask("import space.one")
    place.must("undo", newest_id(place))
    assert place.ask("import space.one, space.two; print('both')") == "both"
    place.must("undo", newest_id(place))
    place.must_pip("uninstall", "-q", "-y", "space-two")
    left = place.tree()
    # pip leaves the empty folder
    left.pop(str((place.site / "space").relative_to(place.prefix)), None)
    assert left == before


def newest_id(place):
    return place.document("history")["details"]["history"][0]["id"]


# --- what is kept ---------------------------------------------------------------------------------


def test_what_is_kept_and_what_is_gone(make_place):
    place = make_place()
    put(place.site)
    place.must("uninstall", "-y", "alpha")
    place.must("history", "--prune", "--keep", "1")
    (entry,) = place.document("history")["details"]["history"]  # the newest is never let go unasked
    assert entry["bytes"] > 0
    place.must("undo")
    place.must("uninstall", "-y", "alpha")
    pruned = place.must("history", "--prune", "--keep", "1").stdout
    # a change and its undo share files
    assert (pruned.count("removed "), "MB" in pruned) == (2, True)
    newest = max((place.prefix / ".safe-install").glob("txn-*"))
    run("rm", "-r", str(newest / "stash"))
    told = refuse_undo(place, "no longer kept", WITHOUT_UNDO)
    assert "changed since" not in told
