"""The values that decide something by themselves."""

from __future__ import annotations

import pytest

from safe_install.events import Reporter
from safe_install.models import NetworkSettings


@pytest.mark.parametrize(
    ("trusted", "url", "answer"),
    [
        (("host.example",), "https://host.example/x", True),
        (("host.example",), "http://HOST.example:8080/x", True),
        (("host.example:8080",), "http://host.example:8080/x", True),
        (("host.example:8080",), "http://host.example/x", False),
        (("host.example:443",), "https://host.example/x", True),
        (("host.example:80",), "http://host.example/x", True),
        (("host.example",), "https://other.example/x", False),
        (("host.example",), "https://host.example:port/x", False),
        (("host.example",), "https://[host.example/x", False),
        ((), "https://host.example/x", False),
    ],
)
def test_which_hosts_are_trusted(trusted, url, answer):
    assert NetworkSettings(trusted_hosts=trusted).is_trusted(url) is answer


def test_where_nobody_reports_nobody_is_asked():
    assert Reporter().ask("User for host.example: ") is None
