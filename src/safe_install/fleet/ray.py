"""For programs that use Ray: installs on every node of the cluster, or on none.

from safe_install.fleet.ray import install

install(["torch-scatter"])
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from safe_install.fleet.stopping import Stop
from safe_install.system import process

# Ray sets it for a submitted job. A child process that has it would run in the job's runtime_env.
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# Starts this safe-install, from the folder in which this module lies.
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv[0] = 'safe-install'; "
    "from safe_install.__main__ import run; run()"
)


def install(
    packages: Sequence[str], options: Sequence[str] = (), *, address: Optional[str] = None
) -> Dict[str, Any]:
    """Run `safe-install fleet install` in a child process; its JSON document.

    `packages`: requirements, as `pip install` takes them. `options`: those of `safe-install fleet
    install`, such as "--require-cuda". `address`: of the cluster; without it, the cluster to which
    this program is connected, else the one of this machine.

    Errors: RuntimeError with the reason, where the cluster was not changed, or where processes did
    not come back after the change. KeyboardInterrupt with the result: after Ctrl-C the change is
    undone first.
    """
    if isinstance(packages, str):
        raise TypeError("packages is a list of requirements, not one text")
    cluster = address or _find_cluster()
    words = ["fleet", "install", *options, *packages, "--ray", cluster, "--json"]
    variables = process.inherited_variables()
    variables.pop(JOB, None)
    running = process.start(command_of(words), env=variables)
    stop = Stop(running.interrupt)
    stop.hold()
    try:
        completed = running.wait()
    finally:
        stop.release()
    try:
        document: Dict[str, Any] = json.loads(completed.stdout)
    except ValueError as error:
        why = completed.stderr.strip()[-1000:] or "it said nothing"
        raise RuntimeError(f"safe-install ended with {completed.returncode}: {why}") from error
    if completed.returncode != 0:
        kind = KeyboardInterrupt if stop.pending else RuntimeError
        raise kind(describe_failure(document))
    return document


def _find_cluster() -> str:
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return str(ray.get_runtime_context().gcs_address)
    return "auto"


def command_of(words: Sequence[str]) -> List[str]:
    """The command line that runs this safe-install with the Python of this process."""
    return [sys.executable, "-c", _START, str(Path(__file__).parents[2]), *words]


def describe_failure(document: Dict[str, Any]) -> str:
    """Why the command failed, with the reason of each node."""
    error = document["error"] or {}
    parts = [error.get("message") or document["outcome"], error.get("hint") or ""]
    rows = document["details"].get("nodes", [])
    parts += [f"{row['name']}: {row['reason']}" for row in rows if row["reason"]]
    parts += document["details"].get("notes", [])
    return "\n".join(part for part in parts if part)
