"""Brings a file of the controller to a node, where that has not got it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

COLLECTION = "torch_safe_install.safe_install"
CHUNK = 2**20
LONGEST_PATH = 4096


def deliver(action: ActionBase, source: Path, sha256: str, variables: Mapping[str, Any]) -> str:
    """Where the file lies on the node. `sha256`: of the file. Errors: AnsibleActionFail."""
    wanted = {"sha256": sha256, "suffix": suffix_of(source)}
    found = run_module(action, "delivered", wanted, variables)
    if found.get("path") is None:
        sent = send(action, source)
        found = run_module(action, "delivered", {**wanted, "source": sent}, variables)
    path = found.get("path")
    if not is_plain_path(path):
        raise AnsibleActionFail("the node does not say where the file lies")
    return str(path)


def suffix_of(source: Path) -> str:
    """How the file's name ends on the node: the program names itself by it."""
    return ".pyz" if source.suffix == ".pyz" else ".zip"


def is_plain_path(path: Any) -> bool:
    """An absolute path of printable characters."""
    if not isinstance(path, str) or len(path) > LONGEST_PATH:
        return False
    return path.startswith("/") and path.isprintable()


def send(action: ActionBase, source: Path) -> str:
    """Into the folder that Ansible makes for this task; where it lies there."""
    shell = action._connection._shell
    if not shell.tmpdir:
        action._make_tmp_path()
    sent = action._transfer_file(str(source), shell.join_path(shell.tmpdir, "delivered"))
    action._fixup_perms2((shell.tmpdir, sent))
    return str(sent)


def run_module(
    action: ActionBase, name: str, wanted: Mapping[str, Any], variables: Mapping[str, Any]
) -> Dict[str, Any]:
    """What a module of this collection answers, whatever other modules have its name. Errors:
    AnsibleActionFail."""
    answer = action._execute_module(
        module_name=f"{COLLECTION}.{name}", module_args=dict(wanted), task_vars=variables
    )
    if answer.get("failed"):
        raise AnsibleActionFail(describe_failure(answer))
    return dict(answer)


def describe_failure(answer: Mapping[str, Any]) -> str:
    """Why a module failed; one that was killed says it elsewhere."""
    said = [str(answer.get(key) or "").strip() for key in ("msg", "module_stderr", "exception")]
    return ": ".join(text for text in said[:2] if text) or said[2] or "the module failed"


def hash_file(path: Path, known: Optional[str]) -> str:
    """The SHA-256 of a file. `known`: it was read before. Errors: AnsibleActionFail."""
    if known:
        return known
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            for block in iter(lambda: stream.read(CHUNK), b""):
                digest.update(block)
    except OSError as error:
        raise AnsibleActionFail(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()
