"""A private index: who is asked for its password, how often, and where it goes. Real pip, terminal
and server."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import sys
import termios
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar, List, Tuple

import pytest

from safe_install.system import process
from safe_install.system.credentials import Credentials, Keyring
from safe_install.system.http import HttpClient, PageStatus
from tests.differential.packages import PASSWORD, USER, PackageIndex, write_packages
from tests.functional.conftest import Environment
from tests.unit.system.test_credentials import INDEX, Person

CTRL_C = "\x03"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A server with a password."""
    served = PackageIndex(write_packages(tmp_path_factory.mktemp("packages") / "files"))
    yield served
    served.stop()


@pytest.fixture
def environment(make_environment) -> Environment:
    """pip asks the index, and nothing else."""
    return make_environment("3.11", PIP_NO_INDEX="", PIP_FIND_LINKS="", PIP_RETRIES="0")


def talk(
    environment: Environment, words: List[str], answers: List[Tuple[str, str]]
) -> Tuple[int, str]:
    """Run safe-install on a terminal; type each answer when it is asked for. Exit status, and all
    that is seen."""
    child, master = pty.fork()
    if child == 0:
        os.chdir(str(environment.prefix.parent))
        command = [sys.executable, "-m", "safe_install", *words]
        # A shell that looks at its terminal when the program is over, as every shell does.
        look = '"$@"; status=$?; stty -a | grep -q "[^-]echo " && echo echo is on; exit $status'
        os.execve(
            "/bin/sh", ["sh", "-c", f"trap : INT; {look}", "sh", *command], environment.variables
        )
    seen, waiting, deadline = "", list(answers), time.monotonic() + 120
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.5)[0]:
            continue
        try:
            chunk = os.read(master, 65536)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk.decode("utf-8", "replace")
        if waiting and waiting[0][0] in seen.split(USER)[-1]:
            time.sleep(0.2)  # until the echo is off
            os.write(master, f"{waiting.pop(0)[1]}\n".encode())
    os.close(master)
    status = os.waitpid(child, 0)[1]
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status), seen


@pytest.mark.parametrize("options", [[], ["-q"]])
def test_a_person_is_asked_once(environment, index, options):
    url = f"http://{index.host}/private/"
    answers = [(f"User for {index.host}: ", USER), ("Password: ", PASSWORD)]
    status, seen = talk(environment, ["install", *options, "-i", url, "alpha"], answers)
    assert status == 0, seen
    assert seen.count("User for") == seen.count("Password:") == 1  # pip itself runs twice
    assert PASSWORD not in seen
    assert ("Successfully installed alpha-1.5 beta-2.0" in seen) == (not options)
    assert "alpha==1.5" in environment.versions()


@pytest.mark.parametrize("asked", ["User for", "Password: "])
def test_ctrl_c_at_a_question_leaves_a_terminal_that_echoes(environment, index, asked):
    before = environment.tree()
    answers = [(f"User for {index.host}: ", USER), ("Password: ", CTRL_C)]
    if asked == "User for":
        answers = [(asked, CTRL_C)]
    words = ["install", "-i", f"http://{index.host}/private/", "alpha"]
    status, seen = talk(environment, words, answers)
    assert (status, environment.tree()) == (130, before)
    assert "error: interrupted: nothing was changed" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert seen.rstrip().endswith("echo is on")


def test_a_wrong_password_changes_nothing(environment, index):
    before = environment.tree()
    answers = [(f"User for {index.host}: ", USER), ("Password: ", "wrong")]
    status, seen = talk(
        environment, ["install", "-i", f"http://{index.host}/private/", "alpha"], answers
    )
    assert (status, environment.tree()) == (1, before)
    assert "Credentials not correct" in seen


@pytest.mark.parametrize(
    ("words", "variables"),
    [(["--no-input"], {}), ([], {"PIP_NO_INPUT": "1"}), (["--json", "--no-input"], {})],
)
def test_nobody_is_asked_who_does_not_want_to_be(environment, index, words, variables):
    before = environment.tree()
    done = environment.safe_install(
        "install", *words, "-i", f"http://{index.host}/private/", "alpha", **variables
    )
    assert (done.returncode, environment.tree()) == (1, before)
    assert "User for" not in done.stdout + done.stderr


def test_the_document_stays_alone_on_stdout(environment, index):
    url = f"http://{index.host}/private/"
    done = environment.safe_install("install", "--json", "-i", url, "alpha")
    assert done.returncode != 0
    assert json.loads(done.stdout)["outcome"] == "error"
    assert f"User for {index.host}: " in done.stderr


# --- our own client -------------------------------------------------------------------------------


class _Redirects(BaseHTTPRequestHandler):
    seen: ClassVar[List[str]] = []

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.seen.append(self.headers.get("Authorization", ""))
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"other")


@pytest.fixture
def other_host():
    """Somebody else on another port, who writes down what is sent to them."""
    _Redirects.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Redirects)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_our_client_has_the_same_password_and_sends_it_to_its_own_host_alone(
    index, other_host, tmp_path
):
    url = f"http://{index.host}/private/"
    person = Person(USER, PASSWORD)
    client = HttpClient(credentials=Credentials([url], person.ask))
    page = client.get_page(f"{url}alpha/")
    assert (page.status, "alpha-1.5" in page.text) == (PageStatus.LISTED, True)
    client.download(f"{url}files/beta-1.0-py3-none-any.whl", tmp_path / "beta.whl")
    assert len(person.asked) == 2
    index.redirect = f"{other_host}/"
    assert client.get_page(f"{url}redirected/", allowed_hosts=["127.0.0.1"]).text == "other"
    assert client.get_page(f"{other_host}/directly/").text == "other"
    assert _Redirects.seen == ["", ""]


def test_our_client_asks_the_keyring_and_the_address(index, tmp_path):
    url = f"http://{index.host}/private/"
    known = url.replace("//", f"//{USER}:{PASSWORD.replace(' ', '%20').replace('@', '%40')}@")
    assert (
        HttpClient(credentials=Credentials([known])).get_page(f"{url}alpha/").status
        is PageStatus.LISTED
    )
    assert (
        HttpClient(credentials=Credentials([url])).get_page(f"{url}alpha/").status
        is PageStatus.DOWN
    )
    assert HttpClient().get_page(f"{url}alpha/").status is PageStatus.DOWN


INTERRUPTED = """
import threading, time
from safe_install.cli.progress import TextReporter
reporter = TextReporter()
threading.Thread(target=reporter.ask, args=["Password: "], kwargs={"is_secret": True}, daemon=True).start()
try:
    time.sleep(60)
finally:
    reporter.close()
"""


def test_a_password_that_is_not_typed_leaves_the_echo_on():
    """The thread that reads pip's output asks, and it is not the one that a Ctrl-C ends."""
    child, master = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", INTERRUPTED])
    terminal = -1
    try:
        while b"Password" not in os.read(master, 1000):
            pass
        terminal = os.open(f"/proc/{child}/fd/0", os.O_RDWR | os.O_NOCTTY)
        time.sleep(0.2)  # until the echo is off
        assert not termios.tcgetattr(terminal)[3] & termios.ECHO
        os.write(master, b"\x03")
        os.waitpid(child, 0)
        assert termios.tcgetattr(terminal)[3] & termios.ECHO
    finally:
        os.close(terminal)
        os.close(master)


# --- the pieces -----------------------------------------------------------------------------------


CHILD = """
import getpass, sys
print("before")
user = input("User for x:1: ")
password = getpass.getpass("Password: ")
print(user, password)
sys.stderr.write("no question\\n")
"""


def test_a_child_asks_and_is_answered():
    person = Person("me", "pass")
    lines = []
    done = process.run(
        [sys.executable, "-c", CHILD],
        on_stdout=lines.append,
        answer=Credentials(ask=person.ask).answer,
        timeout=60,
    )
    assert (done.returncode, lines) == (0, ["before", "me pass"])
    assert "no question\n" in done.stderr
    assert person.asked == [("User for x:1: ", False), ("Password: ", True)]


def test_a_child_that_nobody_answers_sees_the_end_of_its_input():
    done = process.run(
        [sys.executable, "-c", CHILD], answer=Credentials(ask=Person().ask).answer, timeout=60
    )
    assert done.returncode == 1
    assert "EOFError" in done.stderr


@pytest.mark.parametrize(
    ("provider", "has_module", "found"),
    [
        ("auto", True, ("me", "of the module")),
        ("import", True, ("me", "of the module")),
        ("subprocess", True, ("__token__", "of the command")),
        ("auto", False, ("__token__", "of the command")),
        ("import", False, None),
        ("disabled", True, None),
    ],
)
def test_where_a_keyring_is_looked_for(provider, has_module, found, tmp_path, monkeypatch):
    module = tmp_path / "module" / "keyring.py"
    module.parent.mkdir()
    module.write_text(
        "class Found: username, password = 'me', 'of the module'\n"
        f"def get_credential(url, user): return Found if url == {json.dumps(INDEX)} else None\n"
    )
    command = tmp_path / "bin" / "keyring"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\n[ "$1 $2 $3" = "get {INDEX} __token__" ] && echo "of the command"\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(module.parent))
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    keyring = Keyring(provider, Path(sys.executable) if has_module else None)
    assert keyring.find(INDEX, None) == found
    assert keyring.find("https://other.example/", None) is None
