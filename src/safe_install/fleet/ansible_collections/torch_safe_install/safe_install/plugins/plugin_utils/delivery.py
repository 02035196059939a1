"""Sends a file of the controller to a node that does not have it."""

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
    """The path of the file on the node, which gets it where it is missing. `sha256`: of the file.
    Errors: AnsibleActionFail."""
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
    """The suffix of the file's name on the node: `.pyz` for the program, `.zip` for a bundle."""
    return ".pyz" if source.suffix == ".pyz" else ".zip"


def is_plain_path(path: Any) -> bool:
    """An absolute path of printable characters."""
    if not isinstance(path, str) or len(path) > LONGEST_PATH:
        return False
    return path.startswith("/") and path.isprintable()


def send(action: ActionBase, source: Path) -> str:
    """Copy a file into the folder that Ansible makes for this task on the node; its path there."""
    shell = action._connection._shell
    if not shell.tmpdir:
        action._make_tmp_path()
    sent = action._transfer_file(str(source), shell.join_path(shell.tmpdir, "delivered"))
    action._fixup_perms2((shell.tmpdir, sent))
    return str(sent)


def run_module(
    action: ActionBase, name: str, wanted: Mapping[str, Any], variables: Mapping[str, Any]
) -> Dict[str, Any]:
    """The result of a module of this collection, called by its full name. Errors:
    AnsibleActionFail."""
    answer = action._execute_module(
        module_name=f"{COLLECTION}.{name}", module_args=dict(wanted), task_vars=variables
    )
    if answer.get("failed"):
        raise AnsibleActionFail(describe_failure(answer))
    return dict(answer)


def describe_failure(answer: Mapping[str, Any]) -> str:
    """Why a module failed. One that was killed has it in `module_stderr` or `exception`."""
    keys = ("msg", "module_stderr", "exception")
    message, stderr, exception = (str(answer.get(key) or "").strip() for key in keys)
    parts = [part for part in (message, stderr) if part]
    return ": ".join(parts) or exception or "the module failed"


def hash_file(path: Path, known: Optional[str]) -> str:
    """The SHA-256 of a file; `known` if that is not empty. Errors: AnsibleActionFail."""
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
