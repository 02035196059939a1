"""Who is named when the environment changed while a change was prepared, or a build could not
change it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from safe_install.errors import BuildFailed, Interrupted, NoCandidate, PipFailed, Refused
from safe_install.pipeline.baseline import explaining_failed_build, refuse_changed
from tests.factories import SITE, make_environment

ENVIRONMENT = make_environment(torch="2.13.0+cpu")
ATTEMPT = f"OSError: [Errno 30] Read-only file system: '{SITE}/torch/version.py'"
OF_PIP = f"Processing ./project\n  Building wheel for intruder (setup.py): started\n{ATTEMPT}\n"
TORCH_FILE = str(SITE / "torch" / "version.py")


def fail(error, *, changed=(), built=()):
    """What leaves a preparation that ended with `error`."""
    before = SimpleNamespace(
        environment=ENVIRONMENT,
        changed_paths=lambda: tuple(changed),
        watched_folders=lambda: (Path(SITE),),
    )
    with pytest.raises(type(error) if not changed else Refused) as raised, explaining_failed_build(
        before, built
    ):
        raise error
    return raised.value


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (
            PipFailed("pip failed", output=OF_PIP),
            "the build of intruder tried to write into the environment",
        ),
        (
            BuildFailed("building torch-scatter failed", output=ATTEMPT),
            "a build tried to write into the environment",
        ),
    ],
)
def test_a_build_that_failed_because_it_could_not_write_is_refused(error, named):
    before = SimpleNamespace(
        environment=ENVIRONMENT, changed_paths=lambda: (), watched_folders=lambda: (Path(SITE),)
    )
    with pytest.raises(Refused) as raised, explaining_failed_build(before, ()):
        raise error
    assert raised.value.exit_status == 11
    assert raised.value.message.startswith(named)
    assert raised.value.message.endswith(f"\n  {error.message}"), (
        "what the build itself said is kept"
    )
    assert [finding.check for finding in raised.value.findings] == ["build-wrote"]


@pytest.mark.parametrize(
    "error",
    [
        PipFailed("pip failed", output="OSError: [Errno 30] Read-only file system: '/etc/x'"),
        BuildFailed("building failed", output=f"looked for {SITE}/torch"),
        NoCandidate("no wheel"),
        Interrupted("interrupted", signal_number=2),
    ],
)
def test_other_failures_stay_what_they_are(error):
    assert fail(error) is error


@pytest.mark.parametrize(
    "error",
    [PipFailed("pip failed", output=OF_PIP), BuildFailed("failed"), NoCandidate("no wheel")],
)
def test_what_changed_is_the_worse_news(error):
    refused = fail(error, changed=[TORCH_FILE], built=["intruder"])
    assert refused.message.startswith(
        "something else changed the environment while this ran (built meanwhile: intruder)"
    )
    assert "torch==2.13.0+cpu" in refused.hint, "how torch comes back"
    assert [finding.check for finding in refused.findings] == ["changed-meanwhile"]


def test_an_interrupt_is_no_news_of_the_environment():
    error = Interrupted("interrupted", signal_number=2)
    before = SimpleNamespace(environment=ENVIRONMENT, changed_paths=lambda: (TORCH_FILE,))
    with pytest.raises(Interrupted), explaining_failed_build(before, ()):
        raise error


def test_a_refusal_that_names_the_change_is_not_named_again():
    with pytest.raises(Refused) as first:
        refuse_changed([TORCH_FILE], ENVIRONMENT)
    assert fail(first.value, changed=[TORCH_FILE]) is first.value


@pytest.mark.parametrize(
    ("path", "is_of_torch"), [(TORCH_FILE, True), (str(SITE / "six.py"), False)]
)
def test_only_a_change_of_torch_says_how_torch_comes_back(path, is_of_torch):
    with pytest.raises(Refused) as raised:
        refuse_changed([path], ENVIRONMENT, built=())
    assert ("To bring torch back" in raised.value.hint) is is_of_torch
    refuse_changed([], ENVIRONMENT)
