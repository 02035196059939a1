"""Requirements that are not met."""

from __future__ import annotations

import pytest
from tests.factories import MARKERS, make_distribution, make_environment

from safe_install.health.requirements import dependents_of, new_sentences, unmet_requirements


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        (["b>=1"], ()),
        (["b>=2"], ("a 1.0 requires b>=2, but you have b 1.5 which is incompatible.",)),
        (["c"], ("a 1.0 requires c, which is not installed.",)),
        (["c ; extra == 'more'"], ()),
        (["c ; python_version < '3.8'"], ()),
        (["c ; python_version >= '3.8'"], ("a 1.0 requires c, which is not installed.",)),
        (["not a requirement at all !!"], ()),
    ],
)
def test_unmet_requirements(requires, expected):
    environment = make_environment(make_distribution("a", "1.0", requires=requires), make_distribution("b", "1.5"))
    assert unmet_requirements(environment.installed, MARKERS) == expected


def test_only_the_distributions_of_interest_are_asked():
    environment = make_environment(make_distribution("new", "1", requires=["gone"]))
    assert unmet_requirements(environment.installed, MARKERS, of=()) == ()


def test_an_installed_version_that_is_none_is_not_judged():
    environment = make_environment(make_distribution("a", "1", requires=["b>=1"]), make_distribution("b", "unknown"))
    assert unmet_requirements(environment.installed, MARKERS) == ()


def test_a_requirement_that_another_version_does_not_meet_either_is_not_new():
    before = ("a 1 requires b<2, but you have b 3 which is incompatible.",)
    after = ("a 1 requires b<2, but you have b 4 which is incompatible.", "a 1 requires c, which is not installed.")
    assert new_sentences(before, after) == after[1:]


def test_dependents_by_every_spelling():
    environment = make_environment(
        make_distribution("a", "1", requires=["Torch_Scatter>=2 ; python_version >= '3.8'"]),
        make_distribution("b", "1", requires=["torch", "(damaged"]),
        make_distribution("c", "1"),
    )
    assert dependents_of({"torch-scatter"}, environment.installed) == {"a"}
    assert dependents_of({"torch", "torch-scatter"}, environment.installed) == {"a", "b"}
    assert dependents_of((), environment.installed) == set()
