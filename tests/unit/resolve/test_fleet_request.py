"""The words of `fleet`."""

from __future__ import annotations

import pytest

from safe_install.errors import UsageError
from safe_install.resolve.command_line import parse_command_line
from safe_install.resolve.fleet_request import parse_fleet

HOSTS = ("--inventory", "hosts.yml")


def parse(*words):
    return parse_fleet(parse_command_line(["fleet", *words]).words, environ={})


def test_what_is_planned_here_and_what_a_node_is_told():
    words = ("install", *HOSTS, "-r", "r.txt", "-i", "https://h", "alpha", "--require-cuda")
    found = parse(*words, "--check-timeout", "10m", "--offline", "--json", "--canary", "1")
    assert (found.verb, found.engine, found.target) == ("install", "ansible", "hosts.yml")
    assert found.plan_words == ("-r", "r.txt", "-i", "https://h", "alpha", "--offline")
    assert found.node_words == ("--require-cuda", "--check-timeout", "10m")
    assert found.check_words == ("--check-timeout", "10m")
    assert (found.canary, found.tolerated, found.node_timeout) == (1, 0, 3600.0)


def test_what_a_variable_says_is_told_to_the_nodes():
    environ = {"SAFE_INSTALL_REQUIRE_CUDA": "1", "SAFE_INSTALL_CHECK_TIMEOUT": "5m"}
    line = parse_command_line(["fleet", "install", *HOSTS, "alpha"])
    found = parse_fleet(line.words, environ=environ)
    assert found.node_words == ("--require-cuda", "--check-timeout", "5m")
    assert found.check_words == ("--check-timeout", "5m")


def test_some_of_the_hosts():
    request = parse("install", *HOSTS, "--limit", "gpus:!gpu3", "alpha")
    assert request.limit == "gpus:!gpu3"
    assert request.plan_words == ("alpha",)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "needs a verb"),
        (("deploy", *HOSTS), "no such verb"),
        (("install", "alpha"), "needs the nodes"),
        (
            ("install", *HOSTS, "alpha", "--keep-extensions"),
            "fleet has no option --keep-extensions",
        ),
        (("install", *HOSTS, "alpha", "--no-rollback"), "fleet has no option --no-rollback"),
        (("install", *HOSTS, "alpha", "--target-gpu", "8.0"), "fleet has no option --target-gpu"),
        (("verify",), "needs the nodes"),
        (("install", *HOSTS, "--ray", "auto", "alpha"), "--inventory and --ray"),
        (("verify", "--ray", "auto", "--limit", "gpus"), "--limit needs --inventory"),
        (("uninstall", *HOSTS), "needs a name"),
        (("verify", *HOSTS, "alpha"), "takes no names"),
        (("diff", *HOSTS, "alpha"), "takes no names"),
        (("undo", "a", "b"), "takes one run"),
        (("undo", "--dry-run"), "no dry run"),
        (("install", *HOSTS, "alpha", "--canary", "x"), "not a number"),
        (("install", *HOSTS, "alpha", "--canary", "-1"), "not a number"),
        (("install", *HOSTS, "alpha", "--node-timeout", "soon"), "not a duration"),
        (("install", *HOSTS, "alpha", "--max-failure", "1"), "no such option"),
    ],
)
def test_what_cannot_be_understood(words, told):
    with pytest.raises(UsageError, match=told):
        parse(*words)


def test_an_old_run_needs_no_nodes():
    assert parse("status").arguments == ()
    assert parse("undo", "20261130T010203Z-abcdef").arguments == ("20261130T010203Z-abcdef",)


def test_what_all_nodes_have_is_left_out_where_nobody_else_needs_it():
    assert not parse("install", *HOSTS, "alpha").sends_all
    assert parse("install", *HOSTS, "--require-cuda", "alpha").sends_all
    # workers that join later get the same bundle
    assert parse("install", "--dask", "tcp://h:8786", "alpha").sends_all
