"""What is chosen carries what the project needs, wherever it was found."""

from __future__ import annotations

from typing import Optional

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.errors import InputError, NoCandidate, Refused
from safe_install.events import Reporter
from safe_install.index.catalog import bundled_catalog
from safe_install.models import Candidate, CandidateKind, Link, NetworkSettings
from safe_install.pipeline.choice import ChoiceOptions, IndexChooser
from safe_install.pipeline.client import make_client
from safe_install.ports import World
from safe_install.resolve.pip_settings import parse_formats
from tests.factories import environment_for, make_environment


def test_a_wheel_that_was_built_here_brings_what_its_metadata_hides(tmp_path, monkeypatch):
    name = canonicalize_name("torch-sparse")
    built = Candidate(name, Version("0.6.18"), CandidateKind.BUILT, Link("file:///x.whl", "x.whl"))
    monkeypatch.setattr("safe_install.wheels.store.WheelStore.find", lambda *_: iter([built]))
    environment = make_environment(torch="2.13.0+cpu")
    chooser = IndexChooser(ChoiceOptions(offline=True), World({}, Reporter(), tmp_path))
    (found,) = chooser._find_built(name, environment)
    assert "torch-scatter" in found.requires


@pytest.mark.parametrize(
    "text", ["torchvision==0.20.0", "torchaudio==0.9.0", "mmcv==99.0", "torch-scatter==99.0"]
)
def test_no_candidate_is_one_status_whatever_the_name(text, tmp_path):
    environment = environment_for(
        torch="2.9.1+cu128", python_version="3.11", platform="linux_x86_64"
    )
    chooser = IndexChooser(ChoiceOptions(offline=True), World({}, Reporter(), tmp_path))
    with pytest.raises(NoCandidate) as caught:
        chooser.choose([Requirement(text)], environment)
    assert (caught.value.exit_status, caught.value.code) == (10, "no-candidate")


@pytest.mark.parametrize(
    ("text", "torch", "wishes", "known"),
    [
        ("torch-scatter", "2.8.0+cu128", {}, True),
        ("torch-scatter==2.1.2", "2.8.0+cu128", {}, True),
        # newer than what the facts of its host are complete to
        ("torch-scatter", "2.99.0+cu128", {}, None),
        ("torch-scatter", "1.8.1+cu111", {}, False),
        ("torch-scatter", "1.8.1+cu111", {"index_url": "https://pypi.org/simple"}, False),
        # what a person's own place has, no facts know
        ("torch-scatter", "1.8.1+cu111", {"index_url": "https://h/simple"}, None),
        ("torch-scatter", "1.8.1+cu111", {"find_links": ("https://h/page",)}, None),
    ],
)
def test_what_is_known_without_a_question(text, torch, wishes, known, tmp_path):
    environment = environment_for(torch=torch, python_version="3.11", platform="linux_x86_64")
    chooser = IndexChooser(ChoiceOptions(**wishes), World({}, Reporter(), tmp_path))
    chooser._http = None  # nobody is asked
    assert chooser.is_known(Requirement(text), environment) is known


MACHINES = [
    ("3.11", "linux_x86_64"),
    ("3.8", "manylinux2014_x86_64"),
    ("3.10", "macosx_14_0_arm64"),
]
TORCHES = ["2.13.0+cu126", "2.9.1+cu128", "2.8.0+cpu", "2.1.2+cu118", "1.8.1+cu111"]


@pytest.mark.parametrize(("python", "platform"), MACHINES)
def test_what_is_known_is_what_the_whole_choice_would_say(python, platform, tmp_path):
    """The quick question leaves out what could not fit; of every project it says the same."""
    chooser = IndexChooser(
        ChoiceOptions(offline=True, no_build=True), World({}, Reporter(), tmp_path)
    )
    known = {True: 0, False: 0, None: 0}
    for torch in TORCHES:
        environment = environment_for(torch=torch, python_version=python, platform=platform)
        for name in sorted(bundled_catalog().projects):
            expected: Optional[bool] = True
            try:
                chooser.choose([Requirement(name)], environment)
            except NoCandidate as error:
                expected = None if error.is_open else False
            assert chooser.is_known(Requirement(name), environment) is expected, (name, torch)
            known[expected] += 1
    assert all(known.values()), "each answer is among them"


def test_the_error_says_what_is_missing_and_whether_that_is_certain(tmp_path):
    environment = environment_for(
        torch="2.99.0+cu128", python_version="3.11", platform="linux_x86_64"
    )
    chooser = IndexChooser(ChoiceOptions(offline=True), World({}, Reporter(), tmp_path))
    with pytest.raises(NoCandidate) as caught:
        chooser.choose([Requirement("torch-scatter")], environment, allow_build=False)
    assert (caught.value.projects, caught.value.is_open) == (("torch-scatter",), True)


@pytest.mark.parametrize(
    ("only", "may_be_built"), [("", True), (":all:", False), ("torch-scatter", False)]
)
def test_wheels_alone_are_taken_where_the_person_says_so(tmp_path, only, may_be_built):
    environment = environment_for(
        torch="2.12.0+cu118", python_version="3.11", platform="linux_x86_64"
    )
    wishes = ChoiceOptions(
        offline=True, formats=parse_formats([("only-binary", only)] if only else [])
    )
    chooser = IndexChooser(wishes, World({}, Reporter(), tmp_path))
    if may_be_built:
        (pin,) = chooser.choose([Requirement("torch-scatter")], environment).pins
        assert pin.kind is CandidateKind.SDIST
        return
    with pytest.raises(NoCandidate) as caught:
        chooser.choose([Requirement("torch-scatter")], environment)
    assert "leave --only-binary out" in caught.value.hint.lower()


def test_a_torch_that_would_change_is_refused(tmp_path):
    environment = environment_for(
        torch="2.9.1+cu128", python_version="3.11", platform="linux_x86_64"
    )
    chooser = IndexChooser(ChoiceOptions(offline=True), World({}, Reporter(), tmp_path))
    with pytest.raises(Refused) as caught:
        chooser.choose([Requirement("torch-scatter"), Requirement("torch==2.4.1")], environment)
    assert caught.value.exit_status == 11


@pytest.mark.parametrize(
    ("settings", "variables", "named"),
    [
        ({"ca_bundle": "/no/ca.pem"}, {}, r"--cert \(PIP_CERT\) names /no/ca.pem"),
        ({"client_certificate": "/no/me.pem"}, {}, "--client-cert names /no/me.pem"),
        ({}, {"REQUESTS_CA_BUNDLE": "/no/ca.pem"}, "REQUESTS_CA_BUNDLE names /no/ca.pem"),
        ({}, {"CURL_CA_BUNDLE": "/no/ca.pem"}, "CURL_CA_BUNDLE names /no/ca.pem"),
        ({"ca_bundle": "/"}, {"REQUESTS_CA_BUNDLE": "/no/ca.pem"}, None),
        ({}, {"REQUESTS_CA_BUNDLE": "/", "CURL_CA_BUNDLE": "/no/ca.pem"}, None),
        ({}, {"REQUESTS_CA_BUNDLE": ""}, None),
    ],
)
def test_certificates_that_are_not_there_are_named(tmp_path, settings, variables, named):
    """Without a word every host would seem to be down."""
    world = World(variables, Reporter(), tmp_path, network=NetworkSettings(**settings))
    make_client(world, offline=True)
    if named is None:
        make_client(world)
        return
    with pytest.raises(InputError, match=named):
        make_client(world)
