from __future__ import annotations

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
        ("https://me:p%40ss@pypi.example/simple/", "https://pypi.example/files/x.whl", ("me", "p@ss")),
        ("https://me:pass@pypi.example/simple/", "https://me:pass@pypi.example/x.whl", None),  # requests reads it
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
    assert Credentials([index]).of_url(url) == pair


@pytest.mark.parametrize("url", ["https://evil.example/x", "http://pypi.example/x", "https://pypi.example:1/x"])
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
    assert found.of_url("https://pypi.example/another.whl") == ("me", "pass")
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
    assert found.of_url("https://pypi.example/x.whl") == ("me", "pass")
    assert found.of_url("https://evil.example/x.whl") is None


def test_a_new_password_may_be_saved():
    person = Person("me", "pass", "y")
    found = Credentials([INDEX], person.ask)
    answers = [found.answer(q) for q in ("User for x: ", "Password: ", "Save credentials to keyring [y/N]: ")]
    assert answers == ["me", "pass", "y"]


def test_nobody_answers():
    with pytest.raises(EOFError):
        Credentials([INDEX], Person().ask).answer("User for pypi.example: ")
    assert not Credentials([INDEX]).can_answer
    assert Credentials([INDEX]).after_refusal(INDEX) is None
