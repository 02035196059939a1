"""The part of `safe-install fleet` that runs inside of Ansible, for one node.

What it is to do stands in a file beside the playbook, by the names of the nodes: nothing of it is a
template.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase
from ansible_collections.torch_safe_install.safe_install.plugins.plugin_utils.delivery import (
    deliver,
    run_module,
)

TASKS = "tasks.json"  # node -> {"deliver": {...}} or {"call": {...}}


class ActionModule(ActionBase):
    """Answers with one key, `node`, whose value the callback of this collection hands on."""

    _supports_check_mode = False
    _supports_async = False

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        """As Ansible does, for one node."""
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        task = self._read_task(str(variables["inventory_hostname"]))
        if "python" in self._task.args:
            answer = {"python": str(self._task.args["python"])}
        elif "deliver" in task:
            file = task["deliver"]
            answer = {"path": deliver(self, Path(file["path"]), file["sha256"], variables)}
        elif "call" in task:
            said = run_module(self, "node", task["call"], variables)
            answer = {key: said.get(key) for key in ("status", "output", "said")}
        else:
            return {**result, "skipped": True}  # this run is about other nodes
        return {**result, "changed": False, "node": answer}

    def _read_task(self, name: str) -> Dict[str, Any]:
        path = Path(self._loader.get_basedir()) / TASKS
        return dict(json.loads(path.read_text(encoding="utf-8")).get(name, {}))
