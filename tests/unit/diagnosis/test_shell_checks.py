"""Each exit of the checks of the shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from safe_install.diagnosis.facts import ClosedPort, Facts, Trial
from safe_install.diagnosis.shell_checks import (
    check_network,
    check_variables,
    check_working_folder,
)
from safe_install.models import Severity

PYTHON = Path("/env/bin/python")


def facts(**fields):
    return Facts(PYTHON, **fields)


def test_nothing_in_the_way():
    for check in (check_variables, check_working_folder, check_network):
        assert not check(facts())


def test_a_variable_without_which_torch_imports():
    (one,) = check_variables(facts(without=(Trial("TORCH_LOGS", "https://me:secret@host"),)))
    assert (one.subject, one.severity, one.hint) == (
        "TORCH_LOGS",
        Severity.ERROR,
        "unset TORCH_LOGS",
    )
    assert one.detail == (
        'TORCH_LOGS is "https://****@host": with it torch does not import, and without it torch does'
    )


def test_a_long_value_is_cut():
    (one,) = check_variables(facts(without=(Trial("LD_PRELOAD", "x" * 300),)))
    assert f'"{"x" * 80}..."' in one.detail


TYPED = (
    Trial("PYTHONWARNINGS", "error", "Traceback ...\nDeprecationWarning: old\n"),
    Trial("/work/random.py", "", "ImportError: cannot import name 'Random'"),
)


def test_what_fails_only_as_it_is_typed():
    (variable,) = check_variables(facts(typed=TYPED))
    assert "with it `import torch` fails: DeprecationWarning: old" in variable.detail
    (file,) = check_working_folder(facts(typed=TYPED))
    assert (file.subject, file.severity) == ("random", Severity.ERROR)
    assert "in /work Python imports /work/random.py as random" in file.detail
    assert "cannot import name 'Random'" in file.detail
    assert file.hint == "Rename /work/random.py, or work in another folder."


def test_an_exception_without_words():
    (one,) = check_variables(facts(typed=(Trial("PYTHONHOME", "/gone", " \n"),)))
    assert "no reason was given" in one.detail


@pytest.mark.parametrize(
    ("setting", "source", "hint"),
    [
        ("HTTPS_PROXY", "HTTPS_PROXY is", "unset HTTPS_PROXY"),
        ("index-url", "pip's setting index-url is", "Start it, or correct"),
        ("proxy", "pip's setting proxy is", "Start it, or correct"),
    ],
)
def test_an_address_of_this_machine_at_which_nothing_listens(setting, source, hint):
    ports = (ClosedPort(setting, "http://me:secret@127.0.0.1:7890"),)
    (one,) = check_network(facts(closed_ports=ports))
    assert one.severity is Severity.WARNING
    assert one.detail.startswith(f"{source} http://****@127.0.0.1:7890, and nothing listens there")
    assert one.hint.startswith(hint)


def test_certificates_that_are_not_there():
    (one,) = check_network(facts(lost_certificates={"SSL_CERT_FILE": "/gone.pem"}))
    assert "SSL_CERT_FILE names /gone.pem" in one.detail
    assert one.hint == "unset SSL_CERT_FILE"
