from __future__ import annotations

import sys
from pathlib import Path

import pytest

from safe_install.system.credentials import Credentials, Keyring

INDEX = "https://pypi.example/team/simple/"


class Person:
    """Answers, and remembers what was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def ask(self, question, *, is_secret=False):
        self.asked.append((question, is_secret))
        return self.answers.pop(0) if self.answers else None


class StandInKeyring(Keyring):
    def __init__(self, found):
        object.__setattr__(self, "found", found)
        object.__setattr__(self, "looked", [])

    def find(self, service, user):
        self.looked.append((service, user))
        return self.found.get(service)


@pytest.mark.parametrize(
    ("index", "url", "pair"),
    [
        (
            "https://me:p%40ss@pypi.example/simple/",
            "https://pypi.example/files/x.whl",
            ("me", "p@ss"),
        ),
        # requests reads it
        ("https://me:pass@pypi.example/simple/", "https://me:pass@pypi.example/x.whl", None),
        ("https://me:pass@pypi.example/simple/", "https://pypi.example:8443/x.whl", None),
        ("https://me:pass@pypi.example/simple/", "http://pypi.example/x.whl", None),
        ("https://me:pass@pypi.example/simple/", "https://evil.example/x.whl", None),
        ("https://me:pass@pypi.example/simple/", "https://pypi.example.evil.example/x.whl", None),
        ("https://me:pass@pypi.example/simple/", "https://pypi.example@evil.example/x.whl", None),
        ("https://me@pypi.example/simple/", "https://pypi.example/x.whl", None),
        (INDEX, "https://pypi.example/x.whl", None),
    ],
)
def test_what_an_index_address_holds_goes_to_its_own_host_alone(index, url, pair):
    assert Credentials([index]).find(url) == pair


def test_of_two_indexes_of_a_host_the_nearer_one_is_meant():
    one, two = (
        "https://a:1@gitlab.example/projects/1/simple/",
        "https://b:2@gitlab.example/projects/2/simple/",
    )
    keyring = StandInKeyring({})
    for indexes in ([one, two], [two, one]):
        found = Credentials(indexes, None, keyring)
        assert found.find("https://gitlab.example/projects/1/files/x.whl") == ("a", "1")
        assert found.find("https://gitlab.example/projects/2/files/x.whl") == ("b", "2")
        found.after_refusal("https://gitlab.example/projects/2/files/x.whl")
        assert keyring.looked[-2] == ("https://gitlab.example/projects/2/simple/", "b")


def test_who_was_refused_while_another_thread_asked_does_not_ask_again():
    person = Person("me", "pass", "me", "right")
    found = Credentials([INDEX], person.ask)
    assert found.after_refusal(INDEX, None) == ("me", "pass")
    assert found.after_refusal(INDEX, None) == ("me", "pass")
    assert len(person.asked) == 2
    assert found.after_refusal(INDEX, ("me", "pass")) == ("me", "right"), (
        "a pair that was refused is asked for anew"
    )


@pytest.mark.real_process
def test_the_keyring_is_not_imported_from_the_working_folder(tmp_path, monkeypatch):
    for name in ("keyring", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from here')")
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "keyring.py").write_text(
        "class Found:\n    username, password = 'me', 'pass'\ndef get_credential(url, user):\n    "
        "return Found\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(installed))
    assert Keyring("import", Path(sys.executable)).find("pypi.example", None) == ("me", "pass")


@pytest.mark.parametrize(
    "url", ["https://evil.example/x", "http://pypi.example/x", "https://pypi.example:1/x"]
)
def test_nobody_is_asked_for_a_host_that_is_no_index(url):
    person, keyring = Person("me", "pass"), StandInKeyring({"pypi.example": ("me", "pass")})
    found = Credentials([INDEX], person.ask, keyring)
    assert found.after_refusal(url) is None
    assert (person.asked, keyring.looked) == ([], [])


def test_the_keyring_is_asked_by_index_and_then_by_host_and_then_nobody_else():
    keyring = StandInKeyring({"pypi.example": ("me", "pass")})
    person = Person()
    found = Credentials(["https://me@pypi.example/team/simple/"], person.ask, keyring)
    assert found.after_refusal("https://pypi.example/files/x.whl") == ("me", "pass")
    assert keyring.looked == [(INDEX, "me"), ("pypi.example", "me")]
    assert found.find("https://pypi.example/another.whl") == ("me", "pass")
    assert person.asked == []


def test_the_person_is_asked_once_for_pip_and_for_us():
    person = Person("me", "pass")
    found = Credentials([INDEX], person.ask)
    assert found.answer("Looking") is None
    for _ in range(2):
        assert found.answer("User for pypi.example: ") == "me"
        assert found.answer("Password: ") == "pass"
    assert found.answer("Save credentials to keyring [y/N]: ") == "n"  # it was offered before
    assert person.asked == [("User for pypi.example: ", False), ("Password: ", True)]
    assert found.find("https://pypi.example/x.whl") == ("me", "pass")
    assert found.find("https://evil.example/x.whl") is None


def test_a_new_password_may_be_saved():
    person = Person("me", "pass", "y")
    found = Credentials([INDEX], person.ask, Keyring("import", Path("/env/bin/python")))
    answers = [
        found.answer(q)
        for q in ("User for x: ", "Password: ", "Save credentials to keyring [y/N]: ")
    ]
    assert answers == ["me", "pass", "y"]


@pytest.mark.parametrize(
    "keyring", [None, Keyring("import", None), Keyring("disabled", Path("/env/bin/python"))]
)
def test_nobody_is_asked_to_save_where_nothing_can_keep_it(keyring):
    person = Person("me", "pass")
    found = Credentials([INDEX], person.ask, keyring)
    answers = [
        found.answer(q)
        for q in ("User for x: ", "Password: ", "Save credentials to keyring [y/N]: ")
    ]
    assert answers == ["me", "pass", "n"]


def test_nobody_answers():
    with pytest.raises(EOFError):
        Credentials([INDEX], Person().ask).answer("User for pypi.example: ")
    assert not Credentials([INDEX]).can_answer
    assert Credentials([INDEX]).after_refusal(INDEX) is None
