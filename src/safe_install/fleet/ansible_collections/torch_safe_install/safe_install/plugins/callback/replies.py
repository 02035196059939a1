"""Writes the answer of each node into a file when it comes: one line of JSON for each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: replies
type: stdout
short_description: The answers of nodes, for C(safe-install fleet)
description:
  - Writes them into the file C(replies) of the folder that E(SAFE_INSTALL_ANSIBLE_FOLDER) names, and nothing to
    standard output.
version_added: "1.0.0"
author: The safe-install authors (@torch-safe-install)
"""

FOLDER = "SAFE_INSTALL_ANSIBLE_FOLDER"
MAX_MESSAGE = 4000  # characters


class CallbackModule(CallbackBase):
    """The names of the methods are Ansible's."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "torch_safe_install.safe_install.replies"

    def v2_runner_on_ok(self, result: Any) -> None:
        """The task ended. The program's answer may still be a refusal."""
        self._write(result, "ok", {"answer": result._result.get("node")})

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """The node was reached, but the task failed."""
        self._write(result, "failed", {"said": _message(result)})

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """The node could not be reached."""
        self._write(result, "unreachable", {"said": _message(result)})

    def _write(self, result: Any, kind: str, more: Dict[str, Any]) -> None:
        row = {"node": str(result._host.get_name()), "kind": kind, **more}
        path = Path(os.environ[FOLDER]) / "replies"
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


def _message(result: Any) -> str:
    return str(result._result.get("msg") or "")[:MAX_MESSAGE]
