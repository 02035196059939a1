"""A private repository: git's questions reach the person, once each. Real pip, git, terminal and
server."""

from __future__ import annotations

import base64
import http.server
import shutil
import subprocess
import threading
from functools import partial

import pytest

from tests.functional.test_private_index import talk

USER, PASSWORD = "me", "hunter2-of-git"
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
# Builds a wheel with the standard library alone: nothing is fetched for it.
BACKEND = """
import base64, hashlib, zipfile
INFO = "private_project-1.0.dist-info"
FILES = {
    "private_project.py": "",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\\nName: private-project\\nVersion: 1.0\\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
}
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "private_project-1.0-py3-none-any.whl"
    rows = []
    with zipfile.ZipFile(f"{directory}/{name}", "w") as archive:
        for path, text in FILES.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(f"{path},sha256={digest},{len(text)}")
            archive.writestr(path, text)
        archive.writestr(f"{INFO}/RECORD", "\\n".join([*rows, f"{INFO}/RECORD,,"]) + "\\n")
    return name
"""
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


class Guarded(http.server.SimpleHTTPRequestHandler):
    """Files for who knows the password."""

    def do_GET(self):
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") == expected:
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="repositories"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The address of a repository behind a password, as pip is given it."""
    folder = tmp_path_factory.mktemp("repositories")
    source = folder / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "backend.py").write_text(BACKEND)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, str(source), *words], check=True)
    subprocess.run(
        ["git", "clone", "-q", "--bare", str(source), str(folder / "project.git")], check=True
    )
    subprocess.run(["git", "-C", str(folder / "project.git"), "update-server-info"], check=True)
    handler = partial(Guarded, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"git+http://127.0.0.1:{server.server_address[1]}/project.git"
    server.shutdown()
    server.server_close()


@pytest.fixture
def environment(make_environment):
    quiet = {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
    }
    return make_environment("3.11", **quiet)


def test_a_person_is_asked_once_for_a_repository(environment, repository):
    answers = [("Username for", USER), ("Password for", PASSWORD)]
    status, seen = talk(environment, ["install", repository], answers)
    assert status == 0, seen
    assert seen.count("Username for") == seen.count("Password for") == 1  # pip clones twice
    assert PASSWORD not in seen
    assert any(
        line.startswith("private-project @ git+http://127.0.0.1") for line in environment.freeze()
    )


def test_nobody_is_asked_who_does_not_want_to_be(environment, repository):
    status, seen = talk(environment, ["install", "--no-input", repository], [])
    assert status == 1, seen
    assert "Username for" not in seen.replace("could not read Username for", "")


def test_nobody_is_asked_without_a_terminal(environment, repository):
    done = environment.safe_install("install", repository)
    assert done.returncode == 1
    assert "could not read Username" in done.stdout + done.stderr


def test_a_program_of_the_person_is_left_to_answer(environment, repository, tmp_path):
    own = tmp_path / "own"
    own.write_text(f'#!/bin/sh\ncase "$1" in Username*) echo {USER};; *) echo {PASSWORD};; esac\n')
    own.chmod(0o700)
    environment.variables["GIT_ASKPASS"] = str(own)
    status, seen = talk(environment, ["install", repository], [])
    assert status == 0, seen
    assert "Username for" not in seen
