"""User names and passwords of the person's package indexes: found as pip finds them, asked for once
a command.

In this order: the address itself, the index address it belongs to, netrc (requests does that), and
after a 401 the keyring, then the person. What is found for a host and port is sent there and
nowhere else. Nothing is written down: pip's own questions are answered over a pipe.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Callable, Dict, Optional, Sequence, Tuple
from urllib.parse import unquote, urlsplit, urlunsplit

from safe_install.pip_output import (
    PASSWORD_QUESTION,
    SAVE_QUESTION,
    place_in_question,
    user_question,
)
from safe_install.system import process

Pair = Tuple[str, str]  # user name and password
# (text, is_secret=) -> the answer, None where nobody can give one
Question = Callable[..., Optional[str]]

_KEYRING_TIMEOUT = 60.0  # seconds; a keyring may ask the person to unlock it
# As pip, it imports nothing from the folder in which the person works.
_ASK_KEYRING = """
import sys
if sys.path[0] == "":
    del sys.path[0]
import json
import keyring
url, user = sys.argv[1], sys.argv[2] or None
found = keyring.get_credential(url, user)
print(json.dumps(None if found is None else [found.username, found.password]))
"""


@dataclass(frozen=True)
class Keyring:
    """Where pip would look: in the `keyring` module of the managed Python, or by the command of
    that name."""

    provider: str  # pip's --keyring-provider: auto, disabled, import, subprocess
    python: Optional[Path]  # the managed interpreter, where the module is installed

    @property
    def can_save(self) -> bool:
        """Is there anything that could keep a password?"""
        has_module = self.provider in ("auto", "import") and self.python is not None
        return has_module or (
            self.provider in ("auto", "subprocess") and shutil.which("keyring") is not None
        )

    def find(self, service: str, user: Optional[str]) -> Optional[Pair]:
        """The pair that it holds for an address or a host, None for none."""
        if self.provider in ("auto", "import") and self.python is not None:
            return self._ask_module(self.python, service, user)
        command = shutil.which("keyring") if self.provider in ("auto", "subprocess") else None
        return self._ask_command(command, service, user or "__token__") if command else None

    def _ask_module(self, python: Path, service: str, user: Optional[str]) -> Optional[Pair]:
        answer = process.run(
            [str(python), "-c", _ASK_KEYRING, service, user or ""], timeout=_KEYRING_TIMEOUT
        )
        try:
            found = json.loads(answer.stdout.strip().splitlines()[-1])
            return (str(found[0]), str(found[1])) if found else None
        except (ValueError, IndexError, TypeError):
            return None  # no backend, or one that fails: as if there were no keyring

    def _ask_command(self, command: str, service: str, user: str) -> Optional[Pair]:
        answer = process.run([command, "get", service, user], timeout=_KEYRING_TIMEOUT)
        password = answer.stdout.strip("\r\n")
        return (user, password) if answer.returncode == 0 and password else None


@dataclass
class Credentials:
    """What is known in one command. Errors: EOFError where pip asks and nobody can answer."""

    index_urls: Sequence[str] = ()  # of the person: they alone are asked for
    ask: Optional[Question] = None  # None: --no-input
    keyring: Optional[Keyring] = None
    _known: Dict[str, Pair] = field(default_factory=dict)  # by host and port
    _asked_of: str = ""  # the host and port that pip's last question was about
    _user: str = ""  # the answer to it
    _is_new: bool = False  # did the person give it just now?

    @property
    def can_answer(self) -> bool:
        """May the person be asked?"""
        return self.ask is not None

    def of_url(self, url: str) -> Optional[Pair]:
        """What is sent without being asked; None: nothing, or what the address itself holds."""
        place = _place(url)
        if urlsplit(url).username is not None or not self._is_of_index(url):
            return None
        if place in self._known:
            return self._known[place]
        for index in self._indexes_of(url):
            parts = urlsplit(index)
            if parts.username is not None and parts.password is not None:
                return unquote(parts.username), unquote(parts.password)
        return None

    def after_refusal(self, url: str, sent: Optional[Pair] = None) -> Optional[Pair]:
        """What the keyring or the person has for a host that answered 401 to `sent`; None for
        nothing."""
        if not self._is_of_index(url):
            return None
        place = _place(url)
        known = self._known.get(place)
        if known is not None and known != sent:
            return known  # another thread has asked meanwhile
        user = self._user_of(url)
        for service in (self._index_of(url), place):
            found = (
                self.keyring.find(service, user) if self.keyring is not None and service else None
            )
            if found is not None:
                self._known[place] = found
                return found
        if self.ask is None:
            return None
        user = self.ask(user_question(place))
        password = self.ask(PASSWORD_QUESTION, is_secret=True) if user else None
        if not user or password is None:
            return None
        self._known[place] = (user, password)
        return self._known[place]

    def answer(self, question: str) -> Optional[str]:
        """The answer to what pip wrote last; None where that is no question of the kind that is
        known here."""
        place = place_in_question(question)
        if place is not None:
            return self._answer_user(place)
        if question.endswith(PASSWORD_QUESTION):
            return self._answer_password()
        if question.endswith(SAVE_QUESTION):
            # pip 23.0, of Debian 12, asks it where there is no keyring, too.
            may_be_saved = self._is_new and self.keyring is not None and self.keyring.can_save
            return self._put(SAVE_QUESTION) if may_be_saved else "n"
        return None

    def _answer_user(self, place: str) -> str:
        self._asked_of = place
        self._is_new = place not in self._known
        self._user = self._put(user_question(place)) if self._is_new else self._known[place][0]
        return self._user

    def _answer_password(self) -> str:
        if self._asked_of in self._known:
            return self._known[self._asked_of][1]
        password = self._put(PASSWORD_QUESTION, is_secret=True)
        self._known[self._asked_of] = (self._user, password)
        return password

    def _put(self, question: str, *, is_secret: bool = False) -> str:
        answer = self.ask(question, is_secret=is_secret) if self.ask is not None else None
        if answer is None:
            raise EOFError(question)
        return answer

    def _is_of_index(self, url: str) -> bool:
        return bool(self._indexes_of(url))

    def _indexes_of(self, url: str) -> Sequence[str]:
        """The index addresses that an address may belong to, the nearest first: a host may hold one
        for each team."""
        found = [index for index in self.index_urls if _origin(index) == _origin(url)]
        return sorted(found, key=lambda index: _common_parts(index, url), reverse=True)

    def _index_of(self, url: str) -> str:
        """The index address that an address belongs to, without what is secret in it."""
        found = self._indexes_of(url)
        return _without_user(found[0]) if found else ""

    def _user_of(self, url: str) -> Optional[str]:
        for address in (url, *self._indexes_of(url)):
            user = urlsplit(address).username
            if user:
                return unquote(user)
        return None


def _place(url: str) -> str:
    """Host and port, as pip names them."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _origin(url: str) -> Tuple[str, str]:
    return urlsplit(url).scheme, _place(url).lower()


def _common_parts(one: str, other: str) -> int:
    """How many folders the paths of two addresses have in common."""
    pairs = zip(urlsplit(one).path.split("/"), urlsplit(other).path.split("/"))
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, _place(url), parts.path, parts.query, ""))
