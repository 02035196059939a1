"""The program that git and ssh ask: who is asked, once, and what a question is."""

from __future__ import annotations

import socket
import subprocess

import pytest

from safe_install.system import askpass
from safe_install.system.askpass import AskPass, is_secret, is_terminal

pytestmark = pytest.mark.real_process  # a socket, and the program itself


class Person:
    """Answers from a table; the questions are kept."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    def __call__(self, question, *, is_secret):
        self.asked.append((question, is_secret))
        return self.answers.get(question.split()[0])


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(askpass, "is_terminal", lambda stream: True)


def ask(variables, question):
    """As git does it: the program's output without the line's end, or None where it fails."""
    done = subprocess.run(
        [variables["GIT_ASKPASS"], question],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


@pytest.mark.usefixtures("terminal")
def test_each_question_is_asked_once(tmp_path):
    person = Person(Username="me", Password="péss wörd")
    asked = AskPass(tmp_path, person)
    for _ in range(2):
        variables = asked.variables({})
        assert ask(variables, "Username for 'https://h': ") == "me"
        assert ask(variables, "Password for 'https://me@h': ") == "péss wörd"
    assert person.asked == [
        ("Username for 'https://h': ", False),
        ("Password for 'https://me@h': ", True),
    ]
    assert variables["SSH_ASKPASS"] == variables["GIT_ASKPASS"]
    assert variables["SSH_ASKPASS_REQUIRE"] == "force"


@pytest.mark.usefixtures("terminal")
def test_who_does_not_answer_is_asked_again(tmp_path):
    """git and ssh are told that there is no answer, and fail as without a terminal."""
    person = Person()
    variables = AskPass(tmp_path, person).variables({})
    assert ask(variables, "Password: ") is None
    assert ask(variables, "Password: ") is None
    assert len(person.asked) == 2


@pytest.mark.usefixtures("terminal")
def test_who_went_away_disturbs_nobody_else(tmp_path):
    person = Person(Username="me")
    variables = AskPass(tmp_path, person).variables({})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(tmp_path / "socket"))
    assert ask(variables, "Username for h: ") == "me"
    assert person.asked == [("Username for h: ", False)], "nobody is asked nothing"


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("name", ["GIT_ASKPASS", "SSH_ASKPASS"])
def test_a_program_of_the_persons_own_is_left_alone(name, tmp_path):
    assert AskPass(tmp_path, Person()).variables({name: "/bin/mine"}) == {}


def test_where_nobody_sits_at_a_terminal_nobody_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(askpass, "is_terminal", lambda stream: False)
    assert AskPass(tmp_path, Person()).variables({}) == {}
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("terminal")
def test_where_no_socket_can_be_git_fails_as_without_a_terminal(tmp_path):
    """An address has room for about a hundred characters."""
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    assert AskPass(folder, Person()).variables({}) == {}


@pytest.mark.parametrize(
    ("question", "secret"),
    [
        ("Username for 'https://h': ", False),
        ("Password for 'https://me@h': ", True),
        ("Enter passphrase for key '/home/me/.ssh/id': ", True),
        ("Are you sure you want to continue connecting (yes/no/[fingerprint])? ", False),
    ],
)
def test_what_is_typed_in_the_open(question, secret):
    assert is_secret(question) is secret


def test_a_stream_that_is_closed_or_missing_is_no_terminal(tmp_path):
    closed = (tmp_path / "x").open("w")
    closed.close()
    assert not any(map(is_terminal, (None, closed, object())))
