"""The arguments and environment of this process, and what a command may use."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Callable,
    Iterator,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from safe_install.errors import ProbeFailed
from safe_install.events import Reporter
from safe_install.models import InstallResult, NetworkSettings
from safe_install.ports import World
from safe_install.redaction import redact_words
from safe_install.resolve.command_line import CommandLine, Words

if TYPE_CHECKING:
    from safe_install.environment.interpreter import Probe
    from safe_install.resolve.own_options import OwnOptions


class Invocation(NamedTuple):
    """The arguments and environment of this process: read once, and passed on."""

    line: CommandLine
    environ: Mapping[str, str]

    @property
    def arguments(self) -> Tuple[str, ...]:
        """The words after the command, with the general options before it."""
        return self.line.route.arguments

    @property
    def python(self) -> Optional[str]:
        """The interpreter that was named."""
        return self.line.words.value("--python") or self.environ.get("SAFE_INSTALL_PYTHON")


# The result of a command, or the exit status of a program that has printed everything itself.
Answer = Union[InstallResult, int]
Run = Callable[[Invocation, Reporter], Answer]


def reading_world(invocation: Invocation, reporter: Reporter, network: NetworkSettings) -> World:
    """The world of a command that downloads little or nothing."""
    from safe_install.wheels.store import find_cache

    environ = invocation.environ
    return World(environ, reporter, find_cache(environ), _as_kept(invocation.line.argv), network)


def filling_world(invocation: Invocation, reporter: Reporter, network: NetworkSettings) -> World:
    """The world of a command that downloads or builds; its cache is writable."""
    from safe_install.wheels.store import choose_cache

    cache, problem = choose_cache(invocation.environ)
    if problem:
        reporter.warn(
            f"{problem}: the cache is a temporary folder, and what is fetched or built is not "
            "kept. Name one that can "
            "be written: SAFE_INSTALL_CACHE_DIR"
        )
    return World(invocation.environ, reporter, cache, _as_kept(invocation.line.argv), network)


def warn_of_passed_over(own: OwnOptions, reporter: Reporter) -> None:
    """Warn of variables of other programs that say nothing here."""
    from safe_install.resolve.own_options import UV_VARIABLE

    sentences = list(own.passed_over)
    if own.accelerator_origin == UV_VARIABLE:
        # Imported where it is needed: to read the index now would delay the probe of each command.
        from safe_install.index.catalog import torch_table
        from safe_install.resolve.accelerator import describe_unknown_backend

        sentences += describe_unknown_backend(own, torch_table())
    for sentence in sentences:
        reporter.warn(sentence)


def _as_kept(words: Sequence[str]) -> Sequence[str]:
    """The command for the history, without passwords of indexes."""
    return ("safe-install", *redact_words(words))


def configured_network(invocation: Invocation, words: Words) -> NetworkSettings:
    """The network settings of a command that has none of pip's options. `words`: those of the
    command line."""
    from safe_install.resolve.request import parse_network
    from safe_install.system.pip_configuration import read_configuration

    return parse_network(words, read_configuration(Path(sys.prefix), invocation.environ, "install"))


@contextmanager
def probing(invocation: Invocation) -> Iterator[Optional[Probe]]:
    """Start to probe the managed interpreter while imports go on."""
    from safe_install.environment.interpreter import Probe, find_interpreter

    executable = find_interpreter(invocation.python, invocation.environ)
    try:
        probe = Probe(executable)
    except ProbeFailed:
        yield None  # the command will report that
        return
    try:
        yield probe
    finally:
        probe.stop()
