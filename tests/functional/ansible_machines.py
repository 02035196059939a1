"""Machines for Ansible: environments of this one, reached by connection local or by a real sshd.

torch is the stand-in (tests/lab). Each host has its own environment, and a wrapper as Ansible's
interpreter that gives it variables of its own: its driver, for one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping

import pytest

from safe_install.fleet.engines import ansible
from tests.functional.conftest import (
    Environment,
    clean_variables,
    find_python,
    make_once,
)
from tests.lab.wheels import write_wheel
from tests.treehash import hash_tree

COLLECTIONS = Path(ansible.__file__).parents[1]
TORCH = "torch==1.8.1+cu111"
PYTHONS = ("3.11", "3.12", "3.13", "3.10")  # of the controller
RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.M)


@pytest.fixture(scope="module")
def controller(shared: Path) -> Path:
    """The folder of ansible-playbook, in a virtual environment of its own."""
    pythons = [found for found in map(find_python, PYTHONS) if found]
    if not pythons:
        pytest.skip("ansible-core needs Python 3.10 or newer")
    uv = Path(sys.executable).with_name("uv")

    def make(folder: Path) -> None:
        for words in (
            ["venv", "--quiet", "--python", pythons[0], str(folder)],
            ["pip", "install", "--quiet", "--python", str(folder / "bin/python"), "ansible-core"],
        ):
            done = subprocess.run([str(uv), *words], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr

    return make_once(shared / "ansible", make) / "bin"


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels: alpha in two versions."""
    folder = tmp_path_factory.mktemp("projects")
    for version in ("1", "2"):
        write_wheel(folder, "alpha", version, {"alpha.py": f"version = {version}\n"})
    return folder


class Machines:
    """The hosts of an inventory, and the controller beside them."""

    def __init__(self, folder: Path, controller: Path, variables: Mapping[str, str]) -> None:
        self.folder, self.controller = folder, controller
        self.variables = {
            **variables,
            "HOME": str(folder / "home"),
            "PATH": f"{controller}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
        }
        self.environments: Dict[str, Environment] = {}
        self.hosts: Dict[str, Dict[str, Any]] = {}
        self.before: Dict[str, str] = {}
        (folder / "home").mkdir(exist_ok=True)

    @property
    def inventory(self) -> Path:
        return self.folder / "hosts.yml"

    def add(self, name: str, environment: Environment, **variables: Any) -> None:
        """A host that is this machine, with the driver that `environment` was made with."""
        self.environments[name] = environment
        self.before[name] = hash_tree(environment.prefix)
        self.hosts[name] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(self.wrap(name, environment.variables)),
            "safe_install_python": str(environment.executable),
            **variables,
        }
        self.write()

    def wrap(self, name: str, variables: Mapping[str, str]) -> Path:
        """A Python for Ansible's modules, in variables of its own."""
        path = self.folder / f"python-of-{name}"
        ours = {**variables, "HOME": str(self.folder / "home")}
        ours["SAFE_INSTALL_CACHE_DIR"] = self.variables["SAFE_INSTALL_CACHE_DIR"]
        names = [one for one in ours if ours[one] != os.environ.get(one)]
        lines = [f"export {one}={shlex.quote(ours[one])}" for one in names]
        path.write_text(
            "\n".join(["#!/bin/sh", *lines, f'exec {shlex.quote(sys.executable)} "$@"\n'])
        )
        path.chmod(0o755)
        return path

    def write(self) -> None:
        self.inventory.write_text(json.dumps({"all": {"hosts": self.hosts}}))  # JSON is YAML

    def start(self, play: str, *options: str, **role: Any) -> subprocess.Popen[str]:
        """ansible-playbook with these variables of the role."""
        number = len(list(self.folder.glob("play-*.yml")))
        path = self.folder / f"play-{number}.yml"
        path.write_text(play)
        return subprocess.Popen(
            [
                str(self.controller / "ansible-playbook"),
                *("-i", str(self.inventory)),
                *("-f", "5"),
                *("-e", json.dumps(role)),
                *options,
                str(path),
            ],
            env=self.variables,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def play(self, play: str, *options: str, **role: Any) -> Played:
        """The same, to its end."""
        process = self.start(play, *options, **role)
        text, _ = process.communicate(timeout=300)
        return Played(process.returncode, text)

    def is_as_before(self, *names: str) -> bool:
        """Are the environments of these hosts, or of all, as they were?"""
        return all(
            hash_tree(self.environments[name].prefix) == self.before[name]
            for name in names or self.environments
        )

    def version_of_alpha(self, name: str) -> str:
        """As a fresh process of a host imports it."""
        return self.environments[name].ask("import alpha; print(alpha.version)")

    def states(self, name: str) -> List[str]:
        """What became of the changes of a host, the newest first."""
        rows = self.environments[name].document("status")["details"]["changes"]
        return [row["state"] for row in rows]


class Played:
    """How a play ended."""

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text
        self.changed: Dict[str, int] = {}
        self.failed: Dict[str, int] = {}
        for name, changed, _, failed in RECAP.findall(text):
            self.changed[name], self.failed[name] = int(changed), int(failed)


@pytest.fixture
def machines(
    tmp_path: Path,
    controller: Path,
    projects: Path,
    driver: Dict[str, str],
    lab_wheels: Any,
    node_cache: Path,
) -> Machines:
    index = lab_wheels("3.11").index
    variables = clean_variables(driver, index, tmp_path / "home")
    variables["PIP_FIND_LINKS"] = f"{index} {projects}"
    variables["SAFE_INSTALL_CACHE_DIR"] = str(node_cache)
    return Machines(tmp_path, controller, variables)


@pytest.fixture
def fill(
    machines: Machines, make_environment: Callable[..., Environment], projects: Path
) -> Callable[..., None]:
    """Add hosts with the stand-in torch 1.8.1."""

    def add(*names: str, torch: str = TORCH, driver: str = "11.1", **host: Any) -> None:
        for name in names:
            made = make_environment("3.11", torch, name=name, FAKE_DRIVER_CUDA=driver)
            made.variables["PIP_FIND_LINKS"] += f" {projects}"
            machines.add(name, made, **host)

    return add


# --- over a real sshd -----------------------------------------------------------------------------


class Sshd:
    """sshd on a loopback port, with a key of its own."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder, self.program = folder, program
        for name in ("host", "user"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        settings = {
            "ListenAddress": "127.0.0.1",
            "Port": self.port,
            "HostKey": folder / "host",
            "AuthorizedKeysFile": folder / "user.pub",
            "StrictModes": "no",
            "UsePAM": "no",
            "PidFile": "none",
            "PasswordAuthentication": "no",
            "Subsystem": "sftp internal-sftp",
        }
        lines = [f"{name} {value}\n" for name, value in settings.items()]
        (folder / "config").write_text("".join(lines))
        key = (folder / "host.pub").read_text()
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {key}")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL
        )
        self._wait()

    def _wait(self) -> None:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        raise AssertionError("sshd does not answer")

    @property
    def host(self) -> Dict[str, Any]:
        """The variables of the inventory."""
        words = f"-F none -o UserKnownHostsFile={self.folder / 'known'} -o ControlMaster=no"
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_ssh_private_key_file": str(self.folder / "user"),
            "ansible_ssh_args": words,
            "ansible_remote_tmp": str(self.folder / "remote"),
        }

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


@pytest.fixture
def start_sshd(tmp_path: Path) -> Iterator[Callable[[str], Sshd]]:
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or shutil.which("ssh") is None:
        pytest.skip("no sshd here (apt-get install openssh-server)")
    started: List[Sshd] = []

    def start(name: str) -> Sshd:
        folder = tmp_path / f"sshd-{name}"
        folder.mkdir(mode=0o700)
        started.append(Sshd(folder, str(program)))
        return started[-1]

    yield start
    for sshd in started:
        if sshd.process.poll() is None:
            sshd.stop()
