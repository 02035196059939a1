"""What is chosen carries what the project needs, wherever it was found."""

from __future__ import annotations

from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.choice import Chooser, Wishes
from safe_install.events import Reporter
from safe_install.models import Candidate, CandidateKind, Link
from safe_install.ports import World
from tests.factories import make_environment


def test_a_wheel_that_was_built_here_brings_what_its_metadata_hides(tmp_path, monkeypatch):
    name = canonicalize_name("torch-sparse")
    built = Candidate(name, Version("0.6.18"), CandidateKind.BUILT, Link("file:///x.whl", "x.whl"))
    monkeypatch.setattr("safe_install.wheels.store.WheelStore.find", lambda *_: iter([built]))
    environment = make_environment(torch="2.13.0+cpu")
    chooser = Chooser(environment, Wishes(offline=True), World({}, Reporter(), tmp_path))
    (found,) = chooser._find_built(name, environment)
    assert "torch-scatter" in found.requires
