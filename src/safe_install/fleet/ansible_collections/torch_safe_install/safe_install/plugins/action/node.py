"""The part of `safe-install fleet` that runs inside Ansible, for one node.

Its task is read from a JSON file beside the playbook, which maps node names to tasks. Ansible does
not expand templates in that file.
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
    """The result has one key, `node`; this collection's callback writes its value to a file."""

    _supports_check_mode = False
    _supports_async = False

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        """Ansible calls this once for each node."""
        result = super().run(tmp, task_vars)
        answer = self._answer(task_vars or {})
        if answer is None:
            return {**result, "skipped": True}  # this run is about other nodes
        return {**result, "changed": False, "node": answer}

    def _answer(self, variables: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        """The result of this node's task; None if the node has no task."""
        if "python" in self._task.args:
            return {"python": str(self._task.args["python"])}
        task = self._read_task(str(variables["inventory_hostname"]))
        if "deliver" in task:
            file = task["deliver"]
            return {"path": deliver(self, Path(file["path"]), file["sha256"], variables)}
        if "call" in task:
            result = run_module(self, "node", task["call"], variables)
            return {key: result.get(key) for key in ("status", "output", "said")}
        return None

    def _read_task(self, name: str) -> Dict[str, Any]:
        path = Path(self._loader.get_basedir()) / TASKS
        return dict(json.loads(path.read_text(encoding="utf-8")).get(name, {}))
