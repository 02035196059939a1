"""Which torch has them all, asked ahead: what is asked of the chooser, and what an answer says."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.errors import NoCandidate
from safe_install.index.catalog import bundled_catalog
from safe_install.index.torch_files import Absent
from safe_install.models import Action
from safe_install.pipeline.joint_answer import (
    Question,
    answer_jointly,
    describe_answer,
    on_pypi,
    step_of_torch,
)
from safe_install.pipeline.joint_choice import MAX_ASKED
from tests.factories import make_environment
from tests.unit.pipeline.test_joint_choice import SCATTER, HostChooser

EMPTY = make_environment()
RELEASES = list(bundled_catalog().torch.releases)
OLDEST = "2.1.0"  # more than MAX_ASKED releases behind the newest one


def ask(*texts, here=EMPTY, chooser, why_absent=on_pypi, **said):
    requirements = [Requirement(text) for text in texts]
    on_torch = tuple(one for one in requirements if one.name == "torch")
    extensions = tuple(one for one in requirements if one.name != "torch")
    question = Question(extensions, on_torch, **said)
    catalog = bundled_catalog()
    answer = answer_jointly(
        question, here, catalog, chooser, chooser.torch_pages, why_absent=why_absent
    )
    return question, answer


def test_offline_no_host_is_asked_and_so_there_is_no_limit():
    known = {(SCATTER, OLDEST): True}
    chooser = HostChooser(has={SCATTER: [OLDEST]}, known=known)
    assert len(RELEASES) - RELEASES.index(OLDEST) > MAX_ASKED
    _, answer = ask("torch", SCATTER, chooser=chooser, forbidden_by="--offline")
    assert answer.torch.release == OLDEST
    assert set(chooser.questions) == {answer.torch.build.runtime_version}


def test_online_hosts_are_asked_for_so_many_releases():
    chooser = HostChooser(has={SCATTER: [OLDEST]})
    with pytest.raises(NoCandidate):
        ask("torch", SCATTER, chooser=chooser)
    assert len(set(chooser.questions)) == MAX_ASKED


@pytest.mark.parametrize(
    ("name", "accelerator", "can_be_built"),
    [
        ("flash-attn", "cpu", False),  # it has code for CUDA only
        ("flash-attn", "cu126", True),
        (SCATTER, "cpu", True),
    ],
)
def test_a_build_is_offered_where_it_can_be_made(name, accelerator, can_be_built):
    with pytest.raises(NoCandidate) as raised:
        ask("torch", name, chooser=HostChooser(), forbidden_by="--offline", accelerator=accelerator)
    assert ("which builds from source" in raised.value.hint) is can_be_built


@pytest.mark.parametrize(
    ("texts", "said", "command"),
    [
        (("torch", SCATTER), {}, "safe-install torch==2.13.0 torch-scatter"),
        ((SCATTER,), {"pre": True}, "safe-install --pre torch==2.13.0 torch-scatter"),
        (("torch", f"{SCATTER}>=2"), {}, "safe-install torch==2.13.0 'torch-scatter>=2'"),
        (
            ("torch", SCATTER),
            {"accelerator": "cpu"},
            "safe-install --accelerator cpu torch==2.13.0 torch-scatter",
        ),
    ],
)
def test_what_to_type(texts, said, command):
    chooser = HostChooser(has={SCATTER: ["2.13.0"]})
    question, answer = ask(*texts, chooser=chooser, **said)
    assert describe_answer(answer, question)["command"] == command


def test_the_page_of_a_build_that_is_not_on_the_package_index():
    chooser = HostChooser(has={SCATTER: ["2.13.0"]})
    question, answer = ask("torch", SCATTER, chooser=chooser, accelerator="cpu")
    torch = describe_answer(answer, question)["torch"]
    assert torch["page"] == "https://download.pytorch.org/whl/cpu/torch/"
    assert (torch["version"], torch["accelerator"], torch["is_on_index"]) == (
        "2.13.0+cpu",
        "cpu",
        False,
    )


@pytest.mark.parametrize(
    ("texts", "installed", "action", "because"),
    [
        (("torch", SCATTER), None, Action.ADD, "requested"),
        ((SCATTER,), None, Action.ADD, "torch-scatter needs one"),
        (("torch==2.13.0", SCATTER), "2.12.0+cu130", Action.REPLACE, "requested"),
    ],
)
def test_the_step_of_torch(texts, installed, action, because):
    here = make_environment(torch=installed) if installed else EMPTY
    question, answer = ask(*texts, here=here, chooser=HostChooser(has={SCATTER: ["2.13.0"]}))
    step = step_of_torch(answer, question, here)
    assert (step.name, step.version, step.action, step.because) == (
        canonicalize_name("torch"),
        "2.13.0",
        action,
        because,
    )
    assert step.from_version == installed


# --- an index that replaces pypi.org --------------------------------------------------------------


def ends_at(newest, remedy=""):
    """A company's index, which has no torch after this one."""

    def why_absent(build, interpreter):
        if build.version <= Version(newest):
            return None
        return Absent("c.example has no wheel of it", remedy)

    return why_absent


def test_a_torch_that_the_index_lacks_is_not_chosen():
    chooser = HostChooser(has={SCATTER: [RELEASES[-1], "2.13.0"]})
    words = ("--extra-index-url", "https://u:secret@c.example")
    question, answer = ask(
        *("torch", SCATTER),
        chooser=chooser,
        why_absent=ends_at("2.13.0"),
        index_url="https://u:secret@c.example/simple",
        place_words=words,
    )
    told = describe_answer(answer, question)
    assert answer.torch.release == "2.13.0"
    assert told["torch"]["page"] == "https://****@c.example/simple/torch/"
    assert told["not_taken"][0]["reason"] == "c.example has no wheel of it"
    assert told["command"] == (
        "safe-install --extra-index-url 'https://****@c.example' torch==2.13.0 torch-scatter"
    )
    versions = {version.partition("+")[0] for version in chooser.questions}
    assert versions == {"2.13.0"}, "no host is asked for what cannot come"


@pytest.mark.parametrize("remedy", ["", "Try again when c.example answers."])
def test_an_index_without_any_torch(remedy):
    with pytest.raises(NoCandidate) as raised:
        ask("torch", SCATTER, chooser=HostChooser(), why_absent=ends_at("0", remedy))
    assert raised.value.message == f"torch {RELEASES[-1]}: c.example has no wheel of it"
    assert raised.value.hint == remedy


def test_a_conflict_names_no_torch_that_the_index_lacks():
    """pypi.org has a torch for it; this index ends before."""
    known = {(SCATTER, release): release == RELEASES[-1] for release in RELEASES}
    with pytest.raises(NoCandidate) as raised:
        ask("torch", SCATTER, chooser=HostChooser(known=known), why_absent=ends_at("2.13.0"))
    assert f"Without {SCATTER}: torch 2.13.0+cu130" in raised.value.hint
    assert RELEASES[-1] not in raised.value.hint


@pytest.mark.parametrize(
    ("is_open", "hint"),
    [(True, "Try again when its host answers"), (False, "a wheel that no page lists")],
)
def test_a_wheel_that_the_facts_know_and_no_page_has(is_open, hint):
    """A host that answers does not do so later."""
    chooser = HostChooser(known={(SCATTER, RELEASES[-1]): True}, is_open=is_open)
    with pytest.raises(NoCandidate) as raised:
        ask("torch", SCATTER, chooser=chooser)
    assert hint in raised.value.hint and "--offline" in raised.value.hint
