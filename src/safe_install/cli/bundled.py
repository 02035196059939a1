"""The start of a bundle: the program as usual, whose `install` and `stage` take their files from
the bundle; and `stage --bundle FILE` of the program itself.

python FILE.zip --python ENV install
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Sequence

from safe_install import __main__ as program
from safe_install.cli import main as surface
from safe_install.cli import streams
from safe_install.cli.invocation import (
    Answer,
    Invocation,
    filling_world,
    probing,
    warn_of_passed_over,
)
from safe_install.cli.locations import read_location
from safe_install.commands.check_bundle import describe_bundle
from safe_install.commands.install import install
from safe_install.errors import NoCandidate, UsageError
from safe_install.events import Reporter
from safe_install.folders import expand_home
from safe_install.models import DEFAULT_NETWORK, InstallResult, Outcome
from safe_install.ports import World
from safe_install.resolve.command_line import STAGE_OPTIONS, Words, split_words
from safe_install.resolve.pip_options import PLACE_KEYS
from safe_install.resolve.request import InstallRequest, parse_install
from safe_install.snapshot.bundle_file import open_bundle
from safe_install.snapshot.supply import BundleSupply
from safe_install.wheels.store import find_cache

NAMING = ("requirement", "editable", "group", "requirements-from-script")
BUNDLE, REMOVE = "--bundle", "--remove"
PLACES = (*PLACE_KEYS, "no-index", "platform", "python-version", "abi", "implementation")


def run() -> None:
    """Run the command line of this process, and end it."""
    streams.prepare()
    try:
        status = main(sys.argv[1:], Path(sys.argv[0]))
    finally:
        streams.finish(says_problem=True)
    program.end(status)


def main(argv: Sequence[str], path: Path) -> int:
    """Run one command line of the bundle `path`. The result: the exit status."""
    leave_out_settings()
    if not argv:
        return surface.main(["check-bundle"], {"check-bundle": partial(describe, path)})
    words = list(argv)
    if words[0] == "check-bundle" and all(word.startswith("-") for word in words[1:]):
        words.append(str(path))
    from_here = partial(install_from, path)
    return surface.main(words, {**surface.COMMANDS, "install": from_here, "stage": from_here})


def leave_out_settings() -> None:
    """Ignore pip's configuration: it names indexes, folders and versions, but the wheels of a
    bundle are fixed. Only options on the command line count."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        del os.environ[name]
    os.environ["PIP_CONFIG_FILE"] = os.devnull


def describe(path: Path, invocation: Invocation, reporter: Reporter) -> InstallResult:
    """The content of the bundle and the commands to type; its hashes are not checked. Errors:
    BundleInvalid."""
    bundle = open_bundle(path)
    program = f"python {shlex.quote(str(path))}"
    lines = [
        *describe_bundle(bundle),
        f"Install it with:  {program} --python ENV install",
        f"Is it whole?      {program} check-bundle",
        f"All else:         {program} --help",
    ]
    return InstallResult("check-bundle", Outcome.LISTED, 0, message="\n".join(lines))


def stage_named(invocation: Invocation, reporter: Reporter) -> Answer:
    """`stage --bundle FILE`. Errors: those of `install_from`."""
    leave_out_settings()
    named = invocation.line.words.value(BUNDLE) or ""
    world = filling_world(invocation, reporter, DEFAULT_NETWORK)
    return _install_from(expand_home(named), invocation, world)


def install_from(path: Path, invocation: Invocation, reporter: Reporter) -> Answer:
    """`install` or `stage`, of what the bundle was made for or of the named requirements, from its
    wheels alone. Errors: those of an install; BundleInvalid."""
    if invocation.line.words.has(BUNDLE):
        return stage_named(invocation, reporter)
    if invocation.line.words.has(REMOVE):
        return surface.remove(invocation, reporter)
    world = filling_world(invocation, reporter, DEFAULT_NETWORK)
    world = replace(world, command=("python", path.name, *world.command[1:]))
    return _install_from(path, invocation, world)


def _install_from(path: Path, invocation: Invocation, world: World) -> Answer:
    bundle = open_bundle(path)
    stages = invocation.line.route.command == "stage"
    with tempfile.TemporaryDirectory(prefix="safe-install-") as folder:
        supply = BundleSupply(bundle, Path(folder), find_cache(world.environ))
        words = words_for(invocation.line.words, supply, bundle.manifest.requirements)
        request = parse_install(
            words, environ=world.environ, configuration={}, read=partial(read_location, world=world)
        )
        refuse_elsewhere(request)
        surface.heed_output_options(world.reporter, request)
        warn_of_passed_over(request.own, world.reporter)
        with probing(invocation) as probe:
            try:
                return install(request, world, probe, supply=supply, stages=stages)
            except NoCandidate as error:
                names = ", ".join(wheel.name for wheel in bundle.manifest.wheels)
                if error.lacking_offline:  # nobody wrote --offline
                    error.message = f"no {error.lacking_offline} is in the bundle"
                error.hint = f"It holds {names}: name one of these, or make another bundle."
                raise


def words_for(written: Words, supply: BundleSupply, requirements: Sequence[str]) -> Words:
    """The words of an install from a bundle: those of the command line, without the options on
    where to search."""
    words = ["--offline", "--no-index", "--no-build", "--only-binary", ":all:"]
    words += ["--find-links", str(supply.folder), "--constraint", str(supply.write_constraints())]
    names_something = False
    for word in written.checked():
        if word.name == BUNDLE:
            continue
        if word.key in PLACES:
            raise UsageError(
                f"{word.text[0]}: a bundle is installed from its own wheels",
                hint="Leave it out, or use safe-install itself.",
            )
        names_something |= word.argument or word.key in NAMING
        words += word.text
    if not names_something:
        words += requirements
    return split_words(words, STAGE_OPTIONS)


def refuse_elsewhere(request: InstallRequest) -> None:
    """Refuse the options that install into another folder. Errors: UsageError."""
    if request.place not in (None, "user"):
        raise UsageError(
            f"--{request.place}: a bundle is installed into an environment",
            hint="Name it with --python ENV.",
        )
