"""Which torch is imported, and which is installed: every shape of sys.path, its words and its
remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from safe_install.health.origin import (
    Sites,
    check_missing,
    check_origin,
    check_working_folder,
    is_whole,
)
from safe_install.models import Severity, TorchPlace

SITE, USER, BASE, EXTRA = (
    Path(path)
    for path in (
        "/env/site-packages",
        "/home/me/.local/site-packages",
        "/usr/lib/site-packages",
        "/extra",
    )
)
SITES = Sites(
    own=frozenset({SITE}), user=USER, pythonpath=frozenset({EXTRA}), base_prefix=Path("/usr")
)


def place(location, files="package", version="2.9.1", editable=False):
    name = "torch.py" if files == "module" else "torch"
    return TorchPlace(location, location / name, files, version, editable)


@pytest.mark.parametrize(
    ("imported", "places", "check", "words", "hint"),
    [
        pytest.param(
            EXTRA / "torch",
            [place(EXTRA, version=None), place(SITE)],
            "torch-shadowed",
            f"torch 1.0 is imported from {EXTRA}/torch (PYTHONPATH), and not torch 2.9.1, which is "
            f"installed in {SITE}",
            f"Take {EXTRA} off PYTHONPATH",
            id="PYTHONPATH",
        ),
        pytest.param(
            EXTRA / "torch.py",
            [place(EXTRA, "module", None), place(SITE)],
            "torch-shadowed",
            f"{EXTRA}/torch.py (PYTHONPATH)",
            "PYTHONPATH",
            id="a file torch.py",
        ),
        pytest.param(
            USER / "torch",
            [place(USER), place(SITE, version="2.1.0")],
            "torch-shadowed",
            f"(the user site), and not torch 2.1.0, which is installed in {SITE}",
            "PYTHONNOUSERSITE=1",
            id="the user site before the system's",
        ),
        pytest.param(
            EXTRA / "torch",
            [place(EXTRA), place(BASE, version="2.1.0")],
            "torch-shadowed",
            f"and not torch 2.1.0, which is installed in {BASE}",
            "PYTHONPATH",
            id="PYTHONPATH before the base environment",
        ),
        pytest.param(
            Path("/other/env/torch"),
            [place(Path("/other/env")), place(SITE)],
            "torch-shadowed",
            "/other/env/torch (another folder on sys.path)",
            ".pth file",
            id="a .pth file that leads elsewhere",
        ),
        pytest.param(
            Path("/hook/torch"),
            [place(SITE)],
            "torch-shadowed",
            "/hook/torch",
            "sitecustomize",
            id="an import hook",
        ),
        pytest.param(
            SITE / "torch",
            [place(SITE, version=None)],
            "torch-without-metadata",
            f"imported from {SITE}/torch, and its metadata (torch-*.dist-info) is not there",
            "--force-reinstall --no-deps torch==1.0",
            id="metadata gone",
        ),
        pytest.param(
            EXTRA / "torch",
            [place(EXTRA, version=None)],
            "torch-without-metadata",
            "pip takes torch for not installed",
            "Install it again",
            id="PYTHONPATH without metadata, nothing else",
        ),
    ],
)
def test_another_torch_is_imported(imported, places, check, words, hint):
    (finding,) = check_origin(imported, "1.0", places, SITES)
    assert (finding.check, finding.severity) == (check, Severity.ERROR)
    assert words in finding.detail
    assert hint in finding.hint


@pytest.mark.parametrize(
    ("imported", "places", "named"),
    [
        pytest.param(None, [place(SITE)], "", id="torch did not import"),
        pytest.param(SITE / "torch", [place(SITE)], "", id="the installed one"),
        pytest.param(
            SITE / "torch", [place(SITE), place(BASE)], "", id="it hides the base environment's"
        ),
        pytest.param(
            SITE / "torch",
            [TorchPlace(EXTRA, SITE / "torch", "package"), place(SITE)],
            "",
            id="PYTHONPATH has a link to the installed one",
        ),
        pytest.param(
            BASE / "torch", [place(BASE)], "the base environment", id="--system-site-packages"
        ),
        pytest.param(
            USER / "torch", [place(USER)], "the user site", id="the user site, nothing else"
        ),
        pytest.param(
            EXTRA / "torch",
            [place(EXTRA)],
            "PYTHONPATH",
            id="PYTHONPATH with metadata, nothing else",
        ),
        pytest.param(
            Path("/src/torch"),
            [place(SITE, "", editable=True)],
            "an editable install",
            id="an editable install",
        ),
    ],
)
def test_the_right_torch_is_imported(imported, places, named):
    findings = check_origin(imported, "1.0", places, SITES)
    assert [finding.severity for finding in findings] == ([Severity.NOTE] if named else [])
    assert all(
        f"({named})" in finding.detail and str(imported) in finding.detail for finding in findings
    )


@pytest.mark.parametrize(
    ("places", "check", "words", "hint"),
    [
        ([], "torch-missing", "torch is not installed for /env/bin/python", "--python"),
        (
            [place(SITE, "namespace", None)],
            "torch-leftover",
            f"{SITE}/torch is what is left of one (no __init__.py)",
            f"Remove {SITE}/torch",
        ),
        (
            [place(SITE, version=None)],
            "torch-without-metadata",
            f"{SITE}/torch is there without metadata",
            "Remove",
        ),
        (
            [place(SITE, "")],
            "torch-files-missing",
            f"torch 2.9.1 is recorded in {SITE}, and its files are gone: {SITE}/torch does not "
            "exist",
            "--force-reinstall torch==2.9.1",
        ),
        (
            [place(SITE, "namespace")],
            "torch-files-missing",
            f"{SITE}/torch has no __init__.py",
            "--force-reinstall",
        ),
        (
            [place(BASE, "namespace", None), place(SITE, "")],
            "torch-files-missing",
            "does not exist",
            "torch==2.9.1",
        ),
        (
            [place(SITE, "", None)],
            "torch-missing",
            "torch is not installed for /env/bin/python",
            "--python",
        ),
    ],
)
def test_what_is_there_instead_of_a_torch(places, check, words, hint):
    finding = check_missing(places, Path("/env/bin/python"))
    assert (finding.check, finding.severity) == (check, Severity.ERROR)
    assert words in finding.detail
    assert hint in finding.hint
    assert not is_whole(places)


def test_the_working_folder_hides_the_installed_torch():
    (finding,) = check_working_folder(Path("/work"), Path("/work/torch.py"), SITE / "torch")
    assert (finding.check, finding.severity) == ("torch-shadowed", Severity.ERROR)
    assert "in /work Python imports /work/torch.py as torch" in finding.detail
    assert str(SITE / "torch") in finding.detail


@pytest.mark.parametrize("module", [None, SITE / "torch"])
def test_a_working_folder_that_hides_nothing(module):
    assert check_working_folder(SITE, module, SITE / "torch") == ()
