"""Choosing jointly: what is told of a requirement before anything is chosen, and which of several
builds is taken."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.requirements import Requirement
from packaging.tags import parse_tag
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.errors import NoCandidate
from safe_install.index.bundled import FOUND_IN
from safe_install.index.catalog import bundled_catalog
from safe_install.index.finder import Found
from safe_install.models import (
    BuiltFor,
    Candidate,
    CandidateKind,
    HostAnswer,
    HostAnswerKind,
    Link,
    Rule,
)
from safe_install.resolve.hints import silent_hosts
from safe_install.resolve.provider import is_known, resolve
from tests.factories import environment_for, make_distribution

CATALOG = bundled_catalog()
HERE = environment_for(torch="2.13.0+cpu", python_version="3.11", platform="linux_x86_64")
TAGS = parse_tag("cp311-cp311-linux_x86_64")


def wheel(name, version, torch="2.13.0", requires=()):
    filename = f"{name.replace('-', '_')}-{version}-cp311-cp311-linux_x86_64.whl"
    link = Link(f"https://data.pyg.org/{filename}", filename)
    built_for = BuiltFor(torch, "cpu")
    return Candidate(
        canonicalize_name(name),
        Version(version),
        CandidateKind.WHEEL,
        link,
        TAGS,
        built_for=built_for,
        requires=requires,
    )


def not_asked(name, **fields):
    kind = HostAnswerKind.NOT_ASKED
    return HostAnswer(name, "data.pyg.org", "https://data.pyg.org/", kind, **fields)


def found_by(*wheels, unanswered=()):
    """A finder that has these wheels; the hosts of the `unanswered` projects were not asked."""

    def find(name, environment, *, wanted):
        answers = ()
        if name in unanswered:
            answers = (not_asked(name, is_offline=True),)
        candidates = tuple(one for one in wheels if one.name == name)
        return Found(CATALOG.project(name), candidates, answers)

    return find


SCATTER = wheel("torch-scatter", "2.1.2")
SPARSE = wheel("torch-sparse", "0.6.18", requires=("torch-scatter", "scipy"))


@pytest.mark.parametrize(
    ("requirement", "wheels", "unanswered", "known"),
    [
        ("torch-scatter", [SCATTER], (), True),
        ("torch-scatter", [], (), False),
        ("torch-scatter", [wheel("torch-scatter", "2.1.2", torch="2.12.0")], (), False),
        ("torch-scatter>=3", [SCATTER], (), False),
        # with all that it needs
        ("torch-sparse", [SPARSE, SCATTER], (), True),
        ("torch-sparse", [SPARSE], (), False),
        # only a host can tell
        ("pyg-lib", [], ("pyg-lib",), None),
        ("torch-sparse", [SPARSE], ("torch-scatter",), None),
        # nothing that we choose
        ("six", [], (), True),
        ("torch-scatter; python_version < '3'", [], (), True),
        ("torch-scatter @ https://h/x.whl", [], (), True),
    ],
)
def test_is_a_wheel_known(requirement, wheels, unanswered, known):
    here = HERE
    if unanswered:  # the facts of the hosts are complete up to some torch
        here = environment_for(torch="2.99.0+cpu", python_version="3.11", platform="linux_x86_64")
        wheels = [dataclasses.replace(one, built_for=BuiltFor("2.99.0", "cpu")) for one in wheels]
    find = found_by(*wheels, unanswered=unanswered)
    assert is_known(Requirement(requirement), here, find=find, catalog=CATALOG) is known


@pytest.mark.parametrize(
    ("answer", "is_open"),
    [
        # whatever is said of it
        ({"is_offline": True, "detail": "no host is asked"}, True),
        ({"is_offline": False, "detail": "offline wheels of an earlier place fit"}, False),
    ],
)
def test_only_a_host_that_may_not_be_asked_leaves_a_question_open(answer, is_open):
    here = environment_for(torch="2.99.0+cpu", python_version="3.11", platform="linux_x86_64")

    def find(name, environment, *, wanted):
        return Found(CATALOG.project(name), (), (not_asked(name, **answer),))

    with pytest.raises(NoCandidate) as raised:
        resolve([Requirement("pyg-lib")], here, find=find, catalog=CATALOG)
    assert raised.value.is_open is is_open


def test_what_cannot_be_read_in_a_candidates_metadata_binds_nothing():
    damaged = dataclasses.replace(SPARSE, requires=("(damaged", "torch-scatter"))
    chosen = resolve(
        [Requirement("torch-sparse")], HERE, find=found_by(damaged, SCATTER), catalog=CATALOG
    )
    assert [pin.name for pin in chosen.pins] == ["torch-sparse", "torch-scatter"]


@pytest.mark.parametrize(
    ("installed", "keep", "version"),
    [
        ("2.1.1", ["torch-scatter"], "2.1.1+pt213cpu"),
        ("2.1.1", [], "2.1.2"),
        ("2.0.9", ["torch-scatter"], "2.1.2"),  # no build of it fits
        ("no version", ["torch-scatter"], "2.1.2"),
        (None, ["torch-scatter"], "2.1.2"),
    ],
)
def test_a_build_of_the_installed_version_comes_first_where_it_is_to_be_kept(
    installed, keep, version
):
    here = HERE
    if installed is not None:
        distribution = make_distribution("torch-scatter", installed)
        here = dataclasses.replace(here, installed={distribution.name: distribution})
    chosen = resolve(
        [Requirement("torch-scatter")],
        here,
        find=found_by(SCATTER, wheel("torch-scatter", "2.1.1+pt213cpu")),
        catalog=CATALOG,
        upgrade=["torch-scatter"],
        keep_version=keep,
    )
    assert [str(pin.version) for pin in chosen.pins] == [version]


NEEDS_NEWER = wheel("torch-sparse", "0.6.18", requires=("torch-scatter>=2.1.2",))


@pytest.mark.parametrize(
    ("texts", "options", "asked", "versions"),
    [
        (["torch-scatter"], {}, [], ["2.1.1+pt213cpu"]),
        (["torch-scatter<2.1.2"], {}, [], ["2.1.1+pt213cpu"]),
        (["torch-scatter>=2.1.2"], {}, ["torch-scatter"], ["2.1.2"]),
        (["torch-scatter"], {"upgrade": ["torch-scatter"]}, ["torch-scatter"], ["2.1.2"]),
        (
            ["torch-scatter"],
            {"constraints": [Requirement("torch-scatter>=2.1.2")]},
            ["torch-scatter"],
            ["2.1.2"],
        ),
        # it would stay, and what comes with it requires a newer one
        (
            ["torch-scatter", "torch-sparse"],
            {},
            ["torch-sparse", "torch-scatter"],
            ["2.1.2", "0.6.18"],
        ),
    ],
)
def test_no_host_is_asked_for_what_is_installed_and_stays(texts, options, asked, versions):
    distribution = make_distribution("torch-scatter", "2.1.1+pt213cpu")
    here = dataclasses.replace(HERE, installed={distribution.name: distribution})
    find, names = found_by(SCATTER, NEEDS_NEWER), []

    def find_and_note(name, *arguments, **more):
        names.append(name)
        return find(name, *arguments, **more)

    chosen = resolve(
        list(map(Requirement, texts)), here, find=find_and_note, catalog=CATALOG, **options
    )
    assert list(dict.fromkeys(names)) == asked
    assert [str(pin.version) for pin in chosen.pins] == versions


@pytest.mark.parametrize(
    ("requirement", "asked"),
    [
        ("torch-scatter==2.1.2+pt213cu126", "cu126"),
        ("torch-scatter==2.1.2+pt213cpu", "cpu"),
        ("torch-scatter==2.1.2+cu126", "cu126"),
        ("torch-scatter==2.1.2", "cpu"),
        ("torch-scatter!=2.1.1+pt213cu126,==2.1.2", "cpu"),
        ("torch-scatter==2.1.2+local", "cpu"),
    ],
)
def test_the_pages_of_the_build_that_was_named_are_asked(requirement, asked):
    """Where the person names the very build, and not of its accelerator is the torch that is
    there."""
    accelerators = []

    def find(name, environment, *, wanted):
        accelerators.append(environment.torch.accelerator)
        return Found(CATALOG.project(name), (), ())

    with pytest.raises(NoCandidate):
        resolve([Requirement(requirement)], HERE, find=find, catalog=CATALOG)
    assert set(accelerators) == {asked}


def test_a_wheel_that_fits_torch_and_not_another_requirement_is_named():
    older = dataclasses.replace(SPARSE, requires=("torch-scatter<2",))
    with pytest.raises(NoCandidate) as raised:
        resolve(
            [Requirement("torch-scatter>=2"), Requirement("torch-sparse")],
            HERE,
            find=found_by(older, SCATTER),
            catalog=CATALOG,
        )
    told = [(one.rule, one.detail) for one in raised.value.rejections]
    assert (Rule.CONFLICT, "excluded by another requirement") in told


DOWN = HostAnswer(
    canonicalize_name("torch-scatter"),
    "data.pyg.org",
    "https://data.pyg.org/",
    HostAnswerKind.DOWN,
    detail="HTTP 503",
)


def known_wheel(version, torch="2.13.0"):
    """From the bundled facts."""
    one = wheel("torch-scatter", version, torch=torch)
    return dataclasses.replace(one, link=dataclasses.replace(one.link, found_in=FOUND_IN))


def of_a_silent_host(name, environment, *, wanted):
    candidates = (known_wheel("2.1.1", torch="2.12.0"), known_wheel("2.1.2"))
    return Found(CATALOG.project(name), candidates, (DOWN,))


def test_a_wheel_that_fits_and_cannot_be_fetched_is_named():
    with pytest.raises(NoCandidate) as raised:
        resolve([Requirement("torch-scatter")], HERE, find=of_a_silent_host, catalog=CATALOG)
    error = raised.value
    assert error.headline == (
        f"torch-scatter 2.1.2 fits torch 2.13.0+cpu, Python {HERE.interpreter.version}, "
        "linux_x86_64, and data.pyg.org does not answer now"
    )
    assert [one.rule for one in error.rejections] == [Rule.HOST_DOWN, Rule.TORCH_VERSION]
    assert error.silent_hosts == ("data.pyg.org",)


def test_where_nothing_is_fetched_the_facts_of_a_silent_host_count():
    chosen = resolve(
        *([Requirement("torch-scatter")], HERE),
        find=of_a_silent_host,
        catalog=CATALOG,
        trusts_facts=True,
    )
    assert [str(pin.version) for pin in chosen.pins] == ["2.1.2"]
    assert silent_hosts(chosen.answers) == ("data.pyg.org",)
