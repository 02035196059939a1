#!/usr/bin/python
"""Finds a file of the controller on a node by its hash, or stores it there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: delivered
short_description: The program or a bundle on a node, by its hash
description:
  - Keeps files in a folder that only its owner can write, named by their SHA-256. Used by the other modules of this
    collection.
version_added: "1.0.0"
author: The safe-install authors (@torch-safe-install)
options:
  sha256:
    description: The hash that the file has to have.
    type: str
    required: true
  suffix:
    description: How its name ends.
    type: str
    required: true
    choices: [.pyz, .zip]
  source:
    description: Where the file lies on the node, to be moved into place. Without it the file is looked for.
    type: path
"""

EXAMPLES = r"""
- name: Is the bundle there?
  torch_safe_install.safe_install.delivered:
    sha256: 3c9f0e6f1d0c1f4e3f4a9b0a7f5d6c1b2a39485761f0e9d8c7b6a5948372615f
    suffix: .zip
"""

RETURN = r"""
path:
  description: Where it lies, with that hash; null where it is not there.
  type: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.torch_safe_install.safe_install.plugins.module_utils.delivered import (
    SUFFIXES,
    NotDelivered,
    find_delivered,
)


def main() -> None:
    """Find the file, or store it."""
    module = AnsibleModule(
        argument_spec={
            "sha256": {"type": "str", "required": True},
            "suffix": {"type": "str", "required": True, "choices": list(SUFFIXES)},
            "source": {"type": "path"},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    try:
        path = find_delivered(wanted["sha256"], wanted["suffix"], wanted["source"])
    except (NotDelivered, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, path=path)


if __name__ == "__main__":
    main()
