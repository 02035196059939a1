"""Hosts on which Ansible becomes another user, who has no home: by su, which every Linux has."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

import pytest

from tests.functional.ansible_machines import COLLECTIONS
from tests.functional.ansible_machines import controller as controller
from tests.functional.ansible_machines import projects as projects
from tests.functional.conftest import clean_variables, run_process
from tests.treehash import hash_tree

PYTHON = Path("/usr/bin/python3")  # which every user may start
USER = "nobody"
BECOME = {
    "ansible_become": True,
    "ansible_become_method": "su",
    "ansible_become_user": USER,
    "ansible_become_flags": "-s /bin/sh",  # it has no shell of its own
}
PLAY = """\
- hosts: all
  gather_facts: false
  tasks:
    - torch_safe_install.safe_install.safe_install:
        name: [alpha]
        state: absent
        python: "{{ safe_install_python }}"
        program: "{{ program }}"
      register: done
    - torch_safe_install.safe_install.safe_install:
        verb: undo
        transaction: "{{ done.transaction }}"
        python: "{{ safe_install_python }}"
        program: "{{ program }}"
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="su to another user needs root"),
    pytest.mark.skipif(not PYTHON.exists(), reason=f"no {PYTHON} here"),
]


class OfAnotherUser:
    """Environments that belong to another user, on hosts that are this machine."""

    def __init__(self, folder: Path, variables: Dict[str, str]) -> None:
        self.folder, self.variables = folder, variables
        self.user = pwd.getpwnam(USER)
        self.inventory = folder / "hosts.json"
        self.environments = [self._make(name) for name in ("a", "b")]
        self.inventory.write_text(json.dumps({"all": {"hosts": self._hosts()}}))

    def _make(self, name: str) -> Path:
        environment = self.folder / name
        words = ["-m", "venv", "--without-pip", str(environment)]
        subprocess.run([str(PYTHON), *words], check=True)
        for path in (environment, *environment.rglob("*")):
            os.chown(path, self.user.pw_uid, self.user.pw_gid, follow_symlinks=False)
        return environment

    def _hosts(self) -> Dict[str, Dict[str, Any]]:
        return {
            environment.name: {
                "ansible_connection": "local",
                "ansible_python_interpreter": str(PYTHON),
                "safe_install_python": str(environment / "bin/python"),
                **BECOME,
            }
            for environment in self.environments
        }

    def fleet(self, zipapp: Path, *words: str) -> Dict[str, Any]:
        command = [sys.executable, "-I", str(zipapp), "fleet", *words, "--json"]
        done = run_process(command, self.variables, cwd=self.folder)
        document: Dict[str, Any] = json.loads(done.stdout)
        return document

    def trees(self) -> List[str]:
        return [hash_tree(environment) for environment in self.environments]

    def owners(self) -> Set[int]:
        return {
            path.lstat().st_uid
            for environment in self.environments
            for path in environment.rglob("*")
        }

    def has_alpha(self) -> List[bool]:
        found = [list(one.glob("lib/python*/site-packages/alpha.py")) for one in self.environments]
        return [bool(paths) for paths in found]


@pytest.fixture
def hosts(
    controller: Path, projects: Path, driver: Dict[str, str], lab_wheels: Any, node_cache: Path
) -> Iterator[OfAnotherUser]:
    # pytest's own folders are closed to other users
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir()
    variables = clean_variables(driver, lab_wheels("3.11").index, home)
    variables.update(
        PATH=f"{controller}{os.pathsep}{os.environ['PATH']}",
        HOME=str(home),
        ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS),
        PIP_FIND_LINKS=str(projects),
        SAFE_INSTALL_CACHE_DIR=str(node_cache),
    )
    delivered = Path(f"/var/tmp/torch-safe-install-{pwd.getpwnam(USER).pw_uid}")
    was_there = delivered.exists()
    yield OfAnotherUser(folder, variables)
    shutil.rmtree(folder)
    if not was_there:
        shutil.rmtree(delivered, ignore_errors=True)


def test_all_is_of_the_user_that_it_becomes(hosts: OfAnotherUser, zipapp: Path) -> None:
    before = hosts.trees()
    done = hosts.fleet(zipapp, "install", "alpha==2", "--inventory", str(hosts.inventory))
    assert (done["exit_code"], done["outcome"]) == (0, "installed"), done
    assert hosts.has_alpha() == [True, True]
    assert hosts.owners() == {hosts.user.pw_uid}

    # where the program and the bundle lie: a folder of that user alone, because there is no home
    folder = Path(f"/var/tmp/torch-safe-install-{hosts.user.pw_uid}/delivered")
    status = folder.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (hosts.user.pw_uid, 0o700)
    assert {path.stat().st_uid for path in folder.iterdir()} == {hosts.user.pw_uid}
    assert not (hosts.folder / "home/.cache/torch-safe-install/delivered").exists()

    # a task of a person's own playbook, too
    play = hosts.folder / "play.yml"
    play.write_text(PLAY)
    words = ["-i", str(hosts.inventory), "-e", f"program={zipapp}", str(play)]
    played = run_process(["ansible-playbook", *words], hosts.variables, cwd=hosts.folder)
    assert played.returncode == 0, played.stdout
    assert played.stdout.count("changed=2") == 2, played.stdout
    assert hosts.has_alpha() == [True, True]
    assert hosts.owners() == {hosts.user.pw_uid}

    undone = hosts.fleet(zipapp, "undo", done["details"]["run"])
    assert (undone["exit_code"], undone["outcome"]) == (0, "undone"), undone
    assert hosts.trees() == before
    assert hosts.owners() == {hosts.user.pw_uid}


def test_a_user_who_may_not_write_there_is_refused(hosts: OfAnotherUser, zipapp: Path) -> None:
    environment = hosts.environments[1]
    for path in (environment, *environment.rglob("*")):
        os.chown(path, 0, 0, follow_symlinks=False)
    before = hosts.trees()
    done = hosts.fleet(zipapp, "install", "alpha==2", "--inventory", str(hosts.inventory))
    assert done["exit_code"] not in (0, 13), done
    rows = {row["name"]: row for row in done["details"]["nodes"]}
    assert rows["a"]["outcome"] == "abandoned", rows
    assert "Permission denied" in rows["b"]["reason"], rows
    assert hosts.trees() == before
