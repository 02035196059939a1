"""A change whose result cannot be written is a change all the same: the exit status is that of the
change."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest


def shell(environment, words, redirection):
    """The exit status of the program, whatever it is piped into, and stderr."""
    program = shlex.join([sys.executable, "-m", "safe_install", *words])
    script = f"{{ {program} {redirection[0]}; echo status $? >&2; }} {redirection[1]}"
    done = subprocess.run(
        ["sh", "-c", script],
        env=environment.variables,
        cwd=environment.prefix.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    *lines, status = done.stderr.splitlines()
    return int(status.split()[1]), "\n".join(lines)


OUTPUTS = {
    "full": (("> /dev/full", ""), "No space left on device"),
    "closed": ((">&-", ""), "it is closed"),
    "gone": (("", "| true"), "Broken pipe"),
}


@pytest.mark.parametrize(
    ("output", "option"),
    [
        ("full", "--json"),
        ("closed", "--json"),
        ("gone", "--no-color"),
        pytest.param("full", "--no-color", marks=pytest.mark.any_python),
    ],
)
def test_the_status_of_a_change_is_true_though_it_cannot_be_written(
    make_environment, output, option
):
    environment = make_environment("3.11")
    redirection, problem = OUTPUTS[output]
    status, said = shell(environment, ["install", option, "typing-extensions"], redirection)
    assert status == 0
    assert said.endswith(f"warning: not all could be written to stdout: {problem}")
    assert "Successfully" not in (environment.prefix / ".safe-install" / "lock").read_text()
    status, said = shell(environment, ["install", option, "no-such-project"], redirection)
    assert status == 1
    assert "No matching distribution found for no-such-project" in said


@pytest.mark.parametrize(
    "words", [["history"], ["wheels"], ["--help"], ["install", "--help"]], ids=" ".join
)
def test_what_only_says_something_ends_as_if_it_were_heard(make_environment, words):
    environment = make_environment("3.11")
    status, said = shell(environment, words, OUTPUTS["gone"][0])
    assert (status, said) == (0, "warning: not all could be written to stdout: Broken pipe")
    assert shell(environment, words, ("2>&- > /dev/full", ""))[0] == 0


def test_a_completing_shell_sees_no_warning(make_environment):
    assert shell(make_environment("3.11"), ["--complete", "ins"], OUTPUTS["full"][0]) == (0, "")
