"""For programs that use Dask: a plugin that installs on the whole cluster, or on no part of it.

from distributed import Client
from safe_install.fleet.dask import SafeInstall

client = Client("tcp://scheduler:8786")
client.register_plugin(SafeInstall(["torch-scatter"]))
"""

from __future__ import annotations

import uuid
from typing import Any, Dict, Sequence, Tuple

from distributed import SchedulerPlugin

from safe_install.events import Reporter
from safe_install.fleet.engines.cluster import read_source, read_text
from safe_install.fleet.engines.dask import COMPILED_THERE
from safe_install.fleet.program import fetch_with_pip, prepare_program
from safe_install.ports import World
from safe_install.system.process import inherited_variables
from safe_install.wheels.store import choose_cache

_MADE_THERE = f"({COMPILED_THERE})(*words)"


class SafeInstall(SchedulerPlugin):  # type: ignore[misc]
    """`safe-install fleet install` as a plugin, in the place of Dask's PipInstall.

    The environments of all workers and of the scheduler are changed together: staged everywhere,
    then committed everywhere, and taken back everywhere where one of them is not healthy after
    that. Workers are started again where something changed. Workers that join later get the same
    before they take tasks; one that cannot have it closes itself.

    Neither workers nor scheduler need safe-install: it comes with the plugin. `register_plugin`
    raises RuntimeError where the cluster was not changed, with the reason.
    """

    idempotent = True

    def __init__(self, packages: Sequence[str], options: Sequence[str] = ()) -> None:
        """`packages`: requirements, as `pip install` takes them. `options`: those of `safe-install
        fleet install`, such as "--require-cuda"."""
        if isinstance(packages, str):
            raise TypeError("packages is a list of requirements, not one text")
        self.packages = tuple(packages)
        self.options = tuple(options)
        self.name = f"SafeInstall-{uuid.uuid4()}"

    def __reduce__(self) -> Tuple[Any, ...]:
        """What is sent is the text of the plugin, and the program: safe-install is not installed
        there."""
        source = read_source() + read_text("safe_install.fleet.engines", "dask_script.py")
        values: Dict[str, Any] = {
            "source": source,
            "space": {"__name__": "sent", "SOURCE": source},
            "name": "Change",
            "words": (self.name, _read_program(), [*self.options, *self.packages]),
        }
        return eval, (_MADE_THERE, values)


def _read_program() -> bytes:
    """Of this safe-install, for every Python, as far as that can be had."""
    variables = inherited_variables()
    cache, _ = choose_cache(variables)
    world = World(variables, Reporter(), cache)
    return prepare_program(cache, fetch_with_pip(world)).path.read_bytes()
