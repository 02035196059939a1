"""The part of the module `safe_install` that runs on the controller: it sends the program to nodes
that do not have it."""

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

# Other keys of a node's result are dropped: a node may not set variables, hosts or warnings.
ACCEPTED: Dict[str, Tuple[type, ...]] = {
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

MAX_MESSAGE = 2000  # characters


class ActionModule(ActionBase):
    """Runs the module on the node. Where the node lacks the file, it is sent, and the module runs
    again."""

    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        """Ansible calls this once for each node."""
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
        return {**result, **filter_answer(answer)}

    def _ask(self, wanted: Dict[str, Any], task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        name = f"{COLLECTION}.safe_install"
        return dict(self._execute_module(module_name=name, module_args=wanted, task_vars=task_vars))


def filter_answer(answer: Dict[str, Any]) -> Dict[str, Any]:
    """The accepted keys of a node's result whose values have the right type. A result without the
    exit status 0 is a failure."""
    accepted: Dict[str, Any] = {}
    for key, kind in ACCEPTED.items():
        if key in answer and isinstance(answer[key], kind):
            accepted[key] = answer[key]
    if answer.get("failed") or accepted.get("exit_code") != 0:
        accepted["failed"] = True
        accepted["msg"] = accepted.get("msg") or "the node gave no answer"
        stderr = str(answer.get("module_stderr") or "").strip()[-MAX_MESSAGE:]
        if stderr:
            accepted["msg"] = f"{accepted['msg']}: {stderr}"
    return accepted
