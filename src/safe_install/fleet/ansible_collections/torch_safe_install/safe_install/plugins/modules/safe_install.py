#!/usr/bin/python
"""Packages of an environment in which PyTorch works, changed by journalled transactions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: safe_install
short_description: Install Python packages without breaking PyTorch
description:
  - Runs C(safe-install) on the node. torch keeps its version and build, the wheels that fit it are chosen, the change
    is checked in a fresh process, and undone where something got worse.
  - The node needs Python 3.8 or newer, and nothing else. The program comes from the controller, as O(program) or as
    O(bundle); it is sent once and kept by its SHA-256 in a folder that only its owner can write.
  - Nothing of the environment is changed outside a transaction; a node that is killed has the environment before, or
    the one after.
version_added: "1.0.0"
author: The safe-install authors (@torch-safe-install)
options:
  name:
    description: Requirements, as pip takes them. Not needed with a O(bundle), which has its own.
    type: list
    elements: str
    default: []
    aliases: [requirements]
  state:
    description: Whether they are to be installed, or not.
    type: str
    choices: [present, absent]
    default: present
  python:
    description: The interpreter of the environment, a path on the node.
    type: path
    required: true
  program:
    description:
      - The program as one file on the controller, C(safe-install.pyz). A relative path is one beside the playbook.
      - One of O(program) and O(bundle) is needed.
    type: path
  bundle:
    description:
      - A bundle on the controller, made by C(safe-install bundle). It is the program, too, and the node needs no
        network. A relative path is one beside the playbook.
    type: path
  sha256:
    description: The hash of O(program) or O(bundle), where it is known; else the file is read for each node.
    type: str
  source:
    description: Where the file arrived on the node. Set by the action plugin.
    type: path
  options:
    description:
      - More options for the verb, as C(--no-build) or C(--index-url URL), one word an entry.
      - Names and passwords belong into the node's C(pip.conf) or C(netrc), else set C(no_log) for the task.
    type: list
    elements: str
    default: []
  verb:
    description:
      - What the program is asked. V(install) is one node's whole change. The others are the parts of a change of many
        nodes, as the role C(install) of this collection makes it.
    type: str
    choices: [install, stage, commit, abandon, undo, verify, status, inventory]
    default: install
  transaction:
    description: Which change V(commit), V(abandon), V(undo) and V(status) are about, as V(stage) returned it.
    type: str
  run:
    description:
      - For V(stage), which run of many machines stages it. Of two runs that stage the same at the same time each has
        its own change then, which the other one does not take back. The role makes one for each play.
    type: str
  lock_timeout:
    description: Seconds to wait for another safe-install that works on the same environment.
    type: int
    default: 60
  timeout:
    description: Seconds after which the program is ended, and the task fails; 0 for no limit.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    description: The plan is made on the node and nothing is changed. The program is delivered for that.
  diff_mode:
    support: full
    description: The distributions that differ, before and after.
"""

EXAMPLES = r"""
- name: torch-scatter for the torch that is there
  torch_safe_install.safe_install.safe_install:
    name: [torch-scatter]
    python: /srv/env/bin/python
    program: safe-install.pyz

- name: From a bundle, on a node without network
  torch_safe_install.safe_install.safe_install:
    python: /srv/env/bin/python
    bundle: scatter.zip

- name: Not any more
  torch_safe_install.safe_install.safe_install:
    name: [torch-scatter]
    state: absent
    python: /srv/env/bin/python
    program: safe-install.pyz

- name: Is it healthy?
  torch_safe_install.safe_install.safe_install:
    verb: verify
    options: [--require-cuda]
    python: /srv/env/bin/python
    program: safe-install.pyz
"""

RETURN = r"""
code:
  description: The outcome (V(installed), V(already-satisfied), V(planned), V(staged), ...), or the code of the error.
  type: str
  returned: always
exit_code:
  description: The exit status of the program.
  type: int
  returned: when the program answered
hint:
  description: What to do about an error.
  type: str
  returned: failure
transaction:
  description: The ID of the change, for V(undo); null where nothing was to be done.
  type: str
  returned: success
steps:
  description: What came, was replaced and went, at most 200.
  type: list
  elements: dict
  returned: success
environment:
  description: Python, platform, torch and driver.
  type: dict
  returned: with V(status) and V(inventory)
details:
  description: What the verb says, without the list of all distributions.
  type: dict
  returned: with V(status) and V(inventory)
"""

import time
from typing import List

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.torch_safe_install.safe_install.plugins.module_utils.answers import (
    LOCKED,
    NoAnswer,
    read_document,
    result_of,
    words_for,
)
from ansible_collections.torch_safe_install.safe_install.plugins.module_utils.delivered import (
    SUFFIXES,
    NotDelivered,
    find_delivered,
)
from ansible_collections.torch_safe_install.safe_install.plugins.module_utils.program import (
    Ended,
    run_program,
)

VERBS = ("install", "stage", "commit", "abandon", "undo", "verify", "status", "inventory")
PAUSE = 2.0  # seconds until the lock is tried again

ARGUMENTS = {
    "name": {"type": "list", "elements": "str", "default": [], "aliases": ["requirements"]},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "python": {"type": "path", "required": True},
    # The action plugin replaces the path by the file's suffix, and adds `sha256` and `source`.
    "program": {"type": "str"},
    "bundle": {"type": "str"},
    "sha256": {"type": "str"},
    "source": {"type": "path"},
    "options": {"type": "list", "elements": "str", "default": []},
    "verb": {"type": "str", "choices": list(VERBS), "default": "install"},
    "transaction": {"type": "str"},
    "run": {"type": "str"},
    "lock_timeout": {"type": "int", "default": 60},
    "timeout": {"type": "int", "default": 0},
}
NEEDED = [
    ("verb", "commit", ("transaction",)),
    ("verb", "abandon", ("transaction",)),
    ("verb", "undo", ("transaction",)),
    ("state", "absent", ("name",)),
]


def main() -> None:
    """Do what the task asks."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_one_of=[("program", "bundle")],
        required_if=NEEDED,
        supports_check_mode=True,
    )
    refuse_unclear(module)
    program = find_program(module)
    only_plan = module.check_mode and module.params["verb"] not in ("verify", "status", "inventory")
    ended = run(module, program, words_for(module.params, only_plan=only_plan))
    if ended.status is None:
        module.fail_json(msg=ended.said, code="lost", hint="Ask it with the verb status.")
    try:
        document = read_document(ended.status, ended.output)
    except NoAnswer as error:
        module.fail_json(msg=f"{error}: {ended.said}", code="no-answer", hint="")
    result = result_of(document, module.params, only_plan=only_plan)
    result["invocation"] = {"module_args": {"verb": module.params["verb"]}}
    module.exit_json(**result)


def refuse_unclear(module: AnsibleModule) -> None:
    """Fail if an entry of `name` is an option or no requirement, or if none is needed but
    missing."""
    wanted = module.params
    for name in wanted["name"]:
        if name.strip() != name or name.startswith("-") or not name:
            module.fail_json(msg=f"{name!r} is no requirement: options stand in `options`")
    if wanted["verb"] == "install" and not wanted["name"] and not wanted["bundle"]:
        module.fail_json(msg="`name` names no requirement, and there is no bundle")


def find_program(module: AnsibleModule) -> str:
    """The path of the program on this node. Where the node does not have it, the module ends with
    `missing`, and the action plugin sends the file."""
    wanted = module.params
    suffix = wanted["bundle"] or wanted["program"]
    if suffix not in SUFFIXES:
        module.fail_json(msg="this module runs with its action plugin", code="usage", hint="")
    try:
        path = find_delivered(wanted["sha256"] or "", suffix, wanted["source"])
    except (NotDelivered, OSError) as error:
        module.fail_json(msg=str(error), code="not-delivered", hint="")
    if path is None:
        module.exit_json(changed=False, missing=True)
    return str(path)


def run(module: AnsibleModule, program: str, words: List[str]) -> Ended:
    """Run the program; again while another one holds the lock of the environment."""
    wanted = module.params
    limit = time.monotonic() + wanted["lock_timeout"]
    while True:
        try:
            ended = run_program(wanted["python"], program, words, wanted["timeout"] or None)
        except OSError as error:
            hint = "`python` is the interpreter of an environment on the node."
            module.fail_json(msg=f"cannot be started: {error}", code="no-interpreter", hint=hint)
        if ended.status != LOCKED or time.monotonic() + PAUSE > limit:
            return ended
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
