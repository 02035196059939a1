"""Answers what git and ssh ask for. They ask on a terminal, which pip's processes do not have here,
or by a program.

The program is a script of ours. It hands the question to this process over a socket in a folder
that only the person can enter; the person is asked once for each question of a command, however
often pip clones.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Mapping, Optional

from safe_install.system.credentials import Question

if TYPE_CHECKING:
    import socket

MAX_QUESTION = 4096  # bytes
_IS_ANSWER, _NO_ANSWER = b"+", b"-"
# The variables by which the person may have named a program of their own.
_NAMED_BY_PERSON = ("GIT_ASKPASS", "SSH_ASKPASS")

_CLIENT = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(sys.argv[2].encode("utf-8", "replace"))
connection.shutdown(socket.SHUT_WR)
answer = b""
for piece in iter(lambda: connection.recv(4096), b""):
    answer += piece
if not answer.startswith(b"+"):
    sys.exit(1)
sys.stdout.buffer.write(answer[1:] + b"\\n")
"""


class AskPass:
    """A program that asks the person, for the children of one command."""

    def __init__(self, folder: Path, ask: Question) -> None:
        """`folder`: a new one, which only the person can enter, and which goes when the command
        ends."""
        self._ask = ask
        self._answers: Dict[str, str] = {}
        self._address = str(folder / "socket")
        self._program = folder / "ask"
        self._listener: Optional[socket.socket] = None

    def variables(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        """What git and ssh are told; nothing where nobody sits at a terminal, or where they have a
        program already."""
        if any(environ.get(name) for name in _NAMED_BY_PERSON) or not is_terminal(sys.stdin):
            return {}
        if self._listener is None and not self._listen():
            return {}
        named = {name: str(self._program) for name in _NAMED_BY_PERSON}
        # ssh would look for a display; OpenSSH 8.4 and newer know it
        return {**named, "SSH_ASKPASS_REQUIRE": "force"}

    def _listen(self) -> bool:
        import socket

        try:
            listener = socket.socket(socket.AF_UNIX)
        except (OSError, AttributeError):
            return False  # no sockets of this kind here: git and ssh fail as without a terminal
        try:
            listener.bind(self._address)  # a long path has no room in an address
            listener.listen()
            words = [sys.executable, "-I", "-S", "-c", _CLIENT, self._address]
            self._program.write_text(
                f'#!/bin/sh\nexec {" ".join(map(shlex.quote, words))} "$1"\n', encoding="utf-8"
            )
            self._program.chmod(0o700)
        except OSError:
            listener.close()
            return False
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()
        return True

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.sendall(self._reply(_read_question(connection)))
                except OSError:
                    continue  # who asked is gone

    def _reply(self, question: str) -> bytes:
        if not question:
            return _NO_ANSWER  # who was to ask it is gone
        if question not in self._answers:
            answer = self._ask(question, is_secret=is_secret(question))
            if answer is None:
                return _NO_ANSWER
            self._answers[question] = answer
        return _IS_ANSWER + self._answers[question].encode("utf-8", "surrogateescape")


def is_secret(question: str) -> bool:
    """Is the answer a password? git asks for a user name, and ssh whether a host is the right one,
    in the open.

    Sources: git's credential.c ("Username for ..."); OpenSSH's sshconnect.c ("Are you sure ...
    (yes/no").
    """
    return not question.startswith("Username") and "(yes/no" not in question


def is_terminal(stream: object) -> bool:
    """A closed or missing stream is none."""
    try:
        return bool(stream is not None and os.isatty(stream.fileno()))  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return False


def _read_question(connection: socket.socket) -> str:
    content = b""
    while len(content) < MAX_QUESTION:
        piece = connection.recv(MAX_QUESTION)
        if not piece:
            break
        content += piece
    return content[:MAX_QUESTION].decode("utf-8", "replace")
