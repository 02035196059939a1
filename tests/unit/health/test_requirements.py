"""Requirements that are not met."""

from __future__ import annotations

import pytest
from tests.factories import MARKERS, make_distribution, make_environment

from safe_install.health.requirements import dependents_of, new_unmet, unmet_requirements
from safe_install.models import UnmetRequirement


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
    environment = make_environment(
        make_distribution("a", "1.0", requires=requires), make_distribution("b", "1.5")
    )
    found = unmet_requirements(environment.installed, MARKERS)
    assert tuple(map(str, found)) == expected, "as pip says it"
    assert all(one.name == "a" and one.version == "1.0" for one in found)


def test_only_the_distributions_of_interest_are_asked():
    environment = make_environment(make_distribution("new", "1", requires=["gone"]))
    assert unmet_requirements(environment.installed, MARKERS, of=()) == ()


def test_an_installed_version_that_is_none_is_not_judged():
    environment = make_environment(
        make_distribution("a", "1", requires=["b>=1"]), make_distribution("b", "unknown")
    )
    assert unmet_requirements(environment.installed, MARKERS) == ()


def test_a_requirement_that_another_version_does_not_meet_either_is_not_new():
    before = (UnmetRequirement("a", "1", "b<2", "b 3"),)
    after = (UnmetRequirement("a", "1", "b<2", "b 4"), UnmetRequirement("a", "1", "c"))
    assert new_unmet(before, after) == after[1:]


def test_dependents_by_every_spelling():
    environment = make_environment(
        make_distribution("a", "1", requires=["Torch_Scatter>=2 ; python_version >= '3.8'"]),
        make_distribution("b", "1", requires=["torch", "(damaged"]),
        make_distribution("c", "1"),
    )
    assert dependents_of({"torch-scatter"}, environment.installed) == {"a"}
    assert dependents_of({"torch", "torch-scatter"}, environment.installed) == {"a", "b"}
    assert dependents_of((), environment.installed) == set()
