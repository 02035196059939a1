"""What the nodes of a Ray cluster answer; without Ray."""

import pytest

from safe_install.fleet.engine import Node
from safe_install.fleet.engines.members import Group
from safe_install.fleet.engines.ray import RayCluster


class Answering(RayCluster):
    """A cluster each node of which gives this answer."""

    def __init__(self, answer):
        self._given = answer

    def ask_each(self, questions, timeout):
        for address in questions:
            yield address, self._given


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        (b'{"programs": []}\n', None),
        (b'{"programs": [[7, "python"]]}\n', "end them: 7 (python)"),
        (b'{"programs": 7}\n', "is not known: it lists no processes"),
    ],
)
def test_what_is_said_of_running_programs(answer, note):
    groups = [Group(Node("host", "/usr/bin/python"), ("address",))]
    notes = Answering(answer).settle(groups).notes
    if note is None:
        assert notes == {}
    else:
        assert notes["host"].endswith(note)
