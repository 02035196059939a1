"""A real Slurm on this machine: one controller and two nodes, each with a host name of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Dict, List, Mapping, Optional

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/none
CredType=cred/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/linear
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=node0 NodeAddr=127.0.0.1 NodeHostname=node0 Port={ports[1]} CPUs=4 State=UNKNOWN
NodeName=node1 NodeAddr=127.0.0.1 NodeHostname=node1 Port={ports[2]} CPUs=4 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""
PROGRAMS = ("slurmctld", "slurmd", "srun", "sbatch", "sinfo", "unshare", "hostname")


def why_not() -> Optional[str]:
    """Why there can be none here; None: there can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"no {missing[0]} here (Debian: apt-get install slurm-wlm)"
    return None if os.geteuid() == 0 else "Slurm's nodes are started as root"


class Slurm:
    """Used as a context manager: all that it starts has ended afterwards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.variables = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._processes: List[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Slurm:
        (self._folder / "state").mkdir()
        text = CONFIGURATION.format(
            host=socket.gethostname(), folder=self._folder, ports=find_ports(3)
        )
        (self._folder / "slurm.conf").write_text(text)
        self._start("slurmctld", ["slurmctld", "-D", "-i"])
        for name in ("node0", "node1"):
            node = ["unshare", "--uts", "sh", "-c", f"hostname {name} && exec slurmd -D"]
            self._start(name, node)
        self._wait_for_nodes()
        return self

    def __exit__(self, *error: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str, command: List[str]) -> None:
        with (self._folder / f"{name}.out").open("wb") as out:
            process = subprocess.Popen(
                command,
                env={**os.environ, **self.variables},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(process)

    def _wait_for_nodes(self) -> None:
        deadline = time.monotonic() + 60
        while self._count_idle() < 2:
            if time.monotonic() > deadline:
                logs = [path.read_text()[-2000:] for path in self._folder.glob("*.out")]
                raise AssertionError("Slurm does not start:\n" + "\n".join(logs))
            time.sleep(0.5)

    def _count_idle(self) -> int:
        question = ["sinfo", "--noheader", "--format", "%D", "--states", "idle"]
        answer = self.run(question, os.environ).stdout.split()
        return sum(int(word) for word in answer if word.isdigit())

    def run(
        self, command: List[str], variables: Mapping[str, str], folder: Optional[Path] = None
    ) -> subprocess.CompletedProcess[str]:
        """A program of Slurm's."""
        environ: Dict[str, str] = {**variables, **self.variables}
        return subprocess.run(
            command,
            env=environ,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


def find_ports(count: int) -> List[int]:
    """Ports on which nobody listens."""
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in listening]
    for server in listening:
        server.close()
    return ports
