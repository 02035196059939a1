"""For programs that use Dask: a plugin that installs on the whole cluster, or on no part of it.

from distributed import Client
from safe_install.fleet.dask import SafeInstall

client = Client("tcp://scheduler:8786")
client.register_plugin(SafeInstall(["torch-scatter"]))
"""

from __future__ import annotations

import uuid
from typing import Dict, Sequence, Tuple

from distributed import SchedulerPlugin

from safe_install.events import Reporter
from safe_install.fleet.engines.cluster import read_source, read_text
from safe_install.fleet.engines.dask import COMPILE_AND_FIND
from safe_install.fleet.program import fetch_with_pip, prepare_program
from safe_install.ports import World
from safe_install.system.process import inherited_variables
from safe_install.wheels.store import choose_cache

_MAKE_PLUGIN = f"({COMPILE_AND_FIND})(*words)"


class SafeInstall(SchedulerPlugin):  # type: ignore[misc]
    """`safe-install fleet install` as a plugin, instead of Dask's PipInstall.

    The environments of all workers and of the scheduler are changed together: the change is staged
    everywhere, then committed everywhere. If one environment is worse after that, all are undone.
    Workers are restarted where something changed. A worker that joins later gets the same change
    before it takes tasks; it closes itself where that fails.

    Neither workers nor the scheduler need safe-install: the plugin brings it. `register_plugin`
    raises RuntimeError with the reason where the cluster was not changed.
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

    def __reduce__(self) -> Tuple[object, ...]:
        """Pickle the plugin as its source text and the program, because the receiver need not have
        safe-install."""
        source = read_source() + read_text("safe_install.fleet.engines", "dask_script.py")
        values: Dict[str, object] = {
            "source": source,
            "space": {"__name__": "sent", "SOURCE": source},
            "name": "Change",
            "words": (self.name, _read_program(), [*self.options, *self.packages]),
        }
        return eval, (_MAKE_PLUGIN, values)


def _read_program() -> bytes:
    """This program as one file, which runs on every supported Python if that can be made."""
    variables = inherited_variables()
    cache, _ = choose_cache(variables)
    world = World(variables, Reporter(), cache)
    return prepare_program(cache, fetch_with_pip(world)).path.read_bytes()
