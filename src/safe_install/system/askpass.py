"""Answers the questions of git and ssh, such as for passwords. They ask on a terminal, which pip's
processes do not have here, or with a program.

The program is a script of ours. It sends the question to this process over a socket, in a folder
that only the user can enter. The user is asked each question once in a command, even if pip clones
several times.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Mapping, Optional

from safe_install.system.credentials import AskUser

if TYPE_CHECKING:
    import socket

MAX_QUESTION = 4096  # bytes
_IS_ANSWER, _NO_ANSWER = b"+", b"-"
# The variables with the name of such a program. The user may have set them.
_PROGRAM_VARIABLES = ("GIT_ASKPASS", "SSH_ASKPASS")

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
    """A program with which git and ssh ask the user, for the child processes of one command."""

    def __init__(self, folder: Path, ask: AskUser) -> None:
        """`folder`: a new one that only the user can enter. The caller removes it."""
        self._ask = ask
        self._answers: Dict[str, str] = {}
        self._address = str(folder / "socket")
        self._program = folder / "ask"
        self._listener: Optional[socket.socket] = None

    def variables(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        """The variables that name the program. None are needed if there is no terminal, or if the
        user named a program."""
        if any(environ.get(name) for name in _PROGRAM_VARIABLES) or not is_terminal(sys.stdin):
            return {}
        if self._listener is None and not self._listen():
            return {}
        named = {name: str(self._program) for name in _PROGRAM_VARIABLES}
        # Without this variable (OpenSSH 8.4 and newer) ssh uses the program only with a display.
        return {**named, "SSH_ASKPASS_REQUIRE": "force"}

    def _listen(self) -> bool:
        """Write the program, and start to answer it. False: it is not possible here."""
        import socket

        try:
            listener = socket.socket(socket.AF_UNIX)
        except (OSError, AttributeError):
            return False  # there are no such sockets: git and ssh fail as without a terminal
        try:
            listener.bind(self._address)  # OSError, if the path is too long
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
                    continue  # the program has ended

    def _reply(self, question: str) -> bytes:
        if not question:
            return _NO_ANSWER  # the program has ended
        if question not in self._answers:
            answer = self._ask(question, is_secret=is_secret(question))
            if answer is None:
                return _NO_ANSWER
            self._answers[question] = answer
        return _IS_ANSWER + self._answers[question].encode("utf-8", "surrogateescape")


def is_secret(question: str) -> bool:
    """Is the answer a password? Not if git asks for a user name (credential.c: "Username for ..."),
    or ssh whether to trust a host (sshconnect.c: "Are you sure ... (yes/no")."""
    return not question.startswith("Username") and "(yes/no" not in question


def is_terminal(stream: object) -> bool:
    """Is the stream a terminal? A closed or missing stream is not."""
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
