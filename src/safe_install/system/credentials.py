"""Finds user names and passwords for the user's package indexes, as pip does.

They come from the address itself, else from the address of its index, else from netrc (read by
requests). After a 401 the keyring is asked, and then the user, once in a command. Credentials for a
host and port are sent there only. They are not written to any file: pip's own questions are
answered through a pipe.
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
# (question, is_secret=) -> the user's answer; None: the user cannot be asked
AskUser = Callable[..., Optional[str]]

_KEYRING_TIMEOUT = 60.0  # seconds; a keyring may ask the user to unlock it
# Like pip, it imports nothing from the working folder.
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
    """The keyring that pip would use: the module `keyring` of the managed Python, or the command of
    that name."""

    provider: str  # pip's --keyring-provider: auto, disabled, import, subprocess
    python: Optional[Path]  # the managed interpreter; None: it does not have the module

    @property
    def can_save(self) -> bool:
        """Is there a keyring that can save a password?"""
        return self._module_python is not None or self._command is not None

    @property
    def _module_python(self) -> Optional[Path]:
        return self.python if self.provider in ("auto", "import") else None

    @property
    def _command(self) -> Optional[str]:
        return shutil.which("keyring") if self.provider in ("auto", "subprocess") else None

    def find(self, service: str, user: Optional[str]) -> Optional[Pair]:
        """The credentials for an address or a host; None if there are none."""
        if self._module_python is not None:
            return self._ask_module(self._module_python, service, user)
        command = self._command
        if command is None:
            return None
        return self._ask_command(command, service, user or "__token__")

    def _ask_module(self, python: Path, service: str, user: Optional[str]) -> Optional[Pair]:
        answer = process.run(
            [str(python), "-c", _ASK_KEYRING, service, user or ""], timeout=_KEYRING_TIMEOUT
        )
        try:
            found = json.loads(answer.stdout.strip().splitlines()[-1])
            return (str(found[0]), str(found[1])) if found else None
        except (ValueError, IndexError, TypeError):
            return None  # without a working backend there is no keyring

    def _ask_command(self, command: str, service: str, user: str) -> Optional[Pair]:
        answer = process.run([command, "get", service, user], timeout=_KEYRING_TIMEOUT)
        password = answer.stdout.strip("\r\n")
        return (user, password) if answer.returncode == 0 and password else None


@dataclass
class Credentials:
    """The credentials that are known in one command."""

    index_urls: Sequence[str] = ()  # the user's indexes: only they get credentials
    ask: Optional[AskUser] = None  # None: --no-input
    keyring: Optional[Keyring] = None
    _known: Dict[str, Pair] = field(default_factory=dict)  # by host and port
    _asked_host: str = ""  # the host and port of pip's last question
    _user: str = ""  # the answer to it
    _is_new: bool = False  # did the user give it just now?

    @property
    def can_answer(self) -> bool:
        """May the user be asked?"""
        return self.ask is not None

    def find(self, url: str) -> Optional[Pair]:
        """The credentials for the first request to an address. None: there are none, or the address
        itself has them."""
        host = _host_and_port(url)
        indexes = self._indexes_of(url)
        if urlsplit(url).username is not None or not indexes:
            return None
        if host in self._known:
            return self._known[host]
        for index in indexes:
            parts = urlsplit(index)
            if parts.username is not None and parts.password is not None:
                return unquote(parts.username), unquote(parts.password)
        return None

    def after_refusal(self, url: str, sent: Optional[Pair] = None) -> Optional[Pair]:
        """The credentials for a host that answered 401, from the keyring or the user; None if there
        are none. `sent`: those that it refused."""
        indexes = self._indexes_of(url)
        if not indexes:
            return None
        host = _host_and_port(url)
        known = self._known.get(host)
        if known is not None and known != sent:
            return known  # another thread has asked for them in the meantime
        found = self._find_in_keyring(url, _without_user(indexes[0]), host)
        if found is None:
            found = self._ask_for_pair(host)
        if found is not None:
            self._known[host] = found
        return found

    def _find_in_keyring(self, url: str, index: str, host: str) -> Optional[Pair]:
        if self.keyring is None:
            return None
        user = self._user_of(url)
        return self.keyring.find(index, user) or self.keyring.find(host, user)

    def _ask_for_pair(self, host: str) -> Optional[Pair]:
        if self.ask is None:
            return None
        user = self.ask(user_question(host))
        password = self.ask(PASSWORD_QUESTION, is_secret=True) if user else None
        if not user or password is None:
            return None
        return user, password

    def answer(self, question: str) -> Optional[str]:
        """The answer to the end of pip's output; None: it is not a known question. Errors:
        EOFError, if the user cannot be asked."""
        host = place_in_question(question)
        if host is not None:
            return self._answer_user(host)
        if question.endswith(PASSWORD_QUESTION):
            return self._answer_password()
        if question.endswith(SAVE_QUESTION):
            # pip 23.0 (Debian 12) asks it even without a keyring.
            may_be_saved = self._is_new and self.keyring is not None and self.keyring.can_save
            return self._ask_user(SAVE_QUESTION) if may_be_saved else "n"
        return None

    def _answer_user(self, host: str) -> str:
        self._asked_host = host
        self._is_new = host not in self._known
        if self._is_new:
            self._user = self._ask_user(user_question(host))
        else:
            self._user = self._known[host][0]
        return self._user

    def _answer_password(self) -> str:
        if self._asked_host in self._known:
            return self._known[self._asked_host][1]
        password = self._ask_user(PASSWORD_QUESTION, is_secret=True)
        self._known[self._asked_host] = (self._user, password)
        return password

    def _ask_user(self, question: str, *, is_secret: bool = False) -> str:
        answer = self.ask(question, is_secret=is_secret) if self.ask is not None else None
        if answer is None:
            raise EOFError(question)
        return answer

    def _indexes_of(self, url: str) -> Sequence[str]:
        """The indexes on the host of an address. The one whose path has most in common with it
        comes first: a host may have one index for each team."""
        found = [index for index in self.index_urls if _origin(index) == _origin(url)]
        return sorted(found, key=lambda index: _common_parts(index, url), reverse=True)

    def _user_of(self, url: str) -> Optional[str]:
        """The user name in an address, or in that of its index."""
        for address in (url, *self._indexes_of(url)):
            user = urlsplit(address).username
            if user:
                return unquote(user)
        return None


def _host_and_port(url: str) -> str:
    """`host:port`, as pip names it in its questions."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _origin(url: str) -> Tuple[str, str]:
    """Scheme, and host with port."""
    return urlsplit(url).scheme, _host_and_port(url).lower()


def _common_parts(one: str, other: str) -> int:
    """The number of folders at the beginning of both paths."""
    pairs = zip(urlsplit(one).path.split("/"), urlsplit(other).path.split("/"))
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, _host_and_port(url), parts.path, parts.query, ""))
