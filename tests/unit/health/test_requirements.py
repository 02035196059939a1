"""Requirements that are not met."""

from __future__ import annotations

import pytest
from tests.factories import MARKERS, make_distribution, make_environment

from safe_install.health.requirements import unmet_requirements


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
