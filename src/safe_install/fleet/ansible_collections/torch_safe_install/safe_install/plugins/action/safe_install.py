"""The part of the module `safe_install` that runs on the controller: it sends the program to a node
that has not got it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.torch_safe_install.safe_install.plugins.plugin_utils.delivery import (
    COLLECTION,
    hash_file,
    send,
    suffix_of,
)

# What a node says beyond these is left out: variables, hosts and warnings are not its to give.
TAKEN: Dict[str, Tuple[type, ...]] = {
    "changed": (bool,),
    "failed": (bool,),
    "msg": (str,),
    "code": (str,),
    "hint": (str,),
    "exit_code": (int,),
    "transaction": (str, type(None)),
    "steps": (list,),
    "diff": (dict,),
    "details": (dict,),
    "environment": (dict, type(None)),
    "invocation": (dict,),
}

MOST_SAID = 2000  # characters


class ActionModule(ActionBase):
    """Runs the module of this collection; again with the file where the node has not got it."""

    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        """As Ansible does, for one node."""
        result = super().run(tmp, task_vars)
        wanted = {key: value for key, value in self._task.args.items() if value not in ("", None)}
        key = "bundle" if "bundle" in wanted else "program"
        if key not in wanted:
            raise AnsibleActionFail(
                "one of `program` and `bundle` is needed: a file of the controller"
            )
        source = Path(self._loader.path_dwim(str(wanted[key])))
        wanted["sha256"] = hash_file(source, wanted.get("sha256"))
        wanted[key] = suffix_of(source)
        answer = self._ask(wanted, task_vars)
        if answer.get("missing") is True:
            answer = self._ask({**wanted, "source": send(self, source)}, task_vars)
        return {**result, **take(answer)}

    def _ask(self, wanted: Dict[str, Any], task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        name = f"{COLLECTION}.safe_install"
        return dict(self._execute_module(module_name=name, module_args=wanted, task_vars=task_vars))


def take(answer: Dict[str, Any]) -> Dict[str, Any]:
    """What a node may say, of the type that it has; a success has the exit status 0."""
    taken: Dict[str, Any] = {}
    for key, kind in TAKEN.items():
        if key in answer and isinstance(answer[key], kind):
            taken[key] = answer[key]
    if answer.get("failed") or taken.get("exit_code") != 0:
        taken["failed"] = True
        taken["msg"] = taken.get("msg") or "the node gave no answer"
        stderr = str(answer.get("module_stderr") or "").strip()[-MOST_SAID:]
        if stderr:
            taken["msg"] = f"{taken['msg']}: {stderr}"
    return taken
