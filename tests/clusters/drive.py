"""drive.py SABOTAGE WORDS...: safe-install with an engine that kills something before a verb.

SABOTAGE is JSON: {"after": "stage", "before": "commit", "sessions": [pid, ...], "pids": [],
"stopped": []}. It happens once, when the second verb is called and the first one was. Processes that
are stopped do not end, and answer nothing. "restart": seconds that Dask's workers have.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from safe_install.fleet.engines import cluster, dask


def main() -> None:
    """Wraps the calls of every cluster engine."""
    sabotage = json.loads(sys.argv[1])
    sys.argv = ["safe-install", *sys.argv[2:]]
    cluster.PATIENCE = sabotage.get("patience", 1.0)
    dask.RESTART = sabotage.get("restart", dask.RESTART)
    call = cluster.ClusterEngine.call
    seen = set()

    def sabotaged(self, calls, heard, *, timeout):
        verbs = {one.words[0] for one in calls}
        if sabotage["before"] in verbs and sabotage["after"] in seen:
            kill(sabotage)
        seen.update(verbs)
        return call(self, calls, heard, timeout=timeout)

    cluster.ClusterEngine.call = sabotaged
    from safe_install.__main__ import run

    run()


def kill(sabotage) -> None:
    """Once."""
    for pid in sabotage.pop("sessions", ()):
        os.killpg(pid, signal.SIGKILL)
    for pid in sabotage.pop("pids", ()):
        os.kill(pid, signal.SIGKILL)
    for pid in sabotage.pop("stopped", ()):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(0.5)


if __name__ == "__main__":
    main()
