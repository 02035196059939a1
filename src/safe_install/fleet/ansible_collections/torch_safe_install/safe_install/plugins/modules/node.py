#!/usr/bin/python
"""Runs one verb of the program on a node, and returns its output unparsed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node
short_description: One verb of the program, for C(safe-install fleet)
description:
  - What C(safe-install fleet) runs on a node. In playbooks use M(torch_safe_install.safe_install.safe_install).
version_added: "1.0.0"
author: The safe-install authors (@torch-safe-install)
options:
  python:
    description: The interpreter of the environment.
    type: str
    required: true
  program:
    description: Where the program lies on the node.
    type: str
    required: true
  words:
    description: The verb and its options.
    type: list
    elements: str
    required: true
  timeout:
    description: Seconds after which it is ended; 0 for no limit.
    type: float
    default: 0
"""

EXAMPLES = r"""
- name: What this node is
  torch_safe_install.safe_install.node:
    python: /srv/env/bin/python
    program: /root/.cache/torch-safe-install/delivered/safe-install.pyz
    words: [inventory]
"""

RETURN = r"""
status:
  description: The exit status; null where the program was ended, and what it did is unknown.
  type: int
  returned: success
output:
  description: Standard output, in base64.
  type: str
  returned: success
said:
  description: The last lines of standard error, or why there is no exit status.
  type: str
  returned: success
"""

import base64

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.torch_safe_install.safe_install.plugins.module_utils.program import (
    run_program,
)


def main() -> None:
    """Run the program."""
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "str", "required": True},
            "program": {"type": "str", "required": True},
            "words": {"type": "list", "elements": "str", "required": True},
            "timeout": {"type": "float", "default": 0},
        }
    )
    wanted = module.params
    timeout = wanted["timeout"] or None
    try:
        ended = run_program(wanted["python"], wanted["program"], wanted["words"], timeout)
    except OSError as error:
        module.fail_json(msg=f"{wanted['python']} cannot be started: {error}")
    output = base64.b64encode(ended.output).decode("ascii")
    module.exit_json(changed=False, status=ended.status, output=output, said=ended.said)


if __name__ == "__main__":
    main()
