"""`bundle`: its words, with pip's settings, handed to the command."""

from __future__ import annotations

from functools import partial
from typing import Callable, Mapping

from safe_install.cli.locations import read_location
from safe_install.commands.bundle import bundle
from safe_install.events import Reporter
from safe_install.models import InstallResult, NetworkSettings
from safe_install.ports import World
from safe_install.resolve.bundle_request import parse_bundle
from safe_install.resolve.command_line import CommandLine
from safe_install.resolve.request import parse_network


def make_bundle(
    line: CommandLine,
    reporter: Reporter,
    configuration: Mapping[str, str],
    make_world: Callable[[NetworkSettings], World],
) -> InstallResult:
    """`make_world`: given how hosts are reached."""
    network = parse_network(line.words, configuration)
    world = make_world(network)
    request = parse_bundle(
        line.words,
        environ=world.environ,
        configuration=configuration,
        read=partial(read_location, world=world),
    )
    reporter.quiet = max(reporter.quiet, request.install.quiet)
    reporter.log_file = request.install.log_file
    reporter.shows_progress = request.install.shows_progress
    return bundle(request, make_world(request.install.network))
