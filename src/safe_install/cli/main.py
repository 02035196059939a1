"""Arguments -> request -> command -> output -> exit status. The only place that catches
SafeInstallError.

The words are split once, by `resolve.command_line`. Those of install, uninstall and explain are
read by `resolve.request`, because pip's options must keep their order and spelling; those of the
others by Typer.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from functools import partial
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Callable,
    Dict,
    List,
    Mapping,
    NoReturn,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
)

from safe_install import __version__
from safe_install.cli import terminal
from safe_install.cli.invocation import (
    Answer,
    Invocation,
    Run,
    configured_network,
    filling_world,
    probing,
    reading_world,
    warn_of_passed_over,
)
from safe_install.errors import (
    Interrupted,
    SafeInstallError,
    SystemFailed,
    Unexpected,
    UsageError,
    hint_for_oserror,
)
from safe_install.events import Reporter
from safe_install.models import DEFAULT_NETWORK, InstallResult, NetworkSettings, Outcome
from safe_install.resolve.command_line import (
    OUR_COMMANDS,
    CommandLine,
    Words,
    parse_command_line,
    unknown_command,
    within,
)
from safe_install.resolve.pip_settings import is_true

if TYPE_CHECKING:
    from safe_install.cli.fixing import Run as RunInside
    from safe_install.commands.install import Mending
    from safe_install.resolve.request import InstallRequest

SHARED_BY_RANKS = ("install", "uninstall", "sync", "undo")  # in a step of Slurm
COMPLETION_OPTIONS = ("--install-completion", "--show-completion")
NOTEBOOK_MAGIC = "%safe_install"  # how `safe_install.notebook` starts this program
OUTCOMES: Mapping[int, Outcome] = {
    10: Outcome.REFUSED,
    11: Outcome.REFUSED,
    13: Outcome.ROLLBACK_FAILED,
    130: Outcome.ROLLED_BACK,
    143: Outcome.ROLLED_BACK,
}


Request = TypeVar("Request")


def main(argv: Optional[Sequence[str]] = None, commands: Optional[Mapping[str, Run]] = None) -> int:
    """Run one command line. The result: its exit status. `commands`: replaces COMMANDS."""
    environ = os.environ
    line = parse_command_line(sys.argv[1:] if argv is None else argv)
    invocation = Invocation(line, environ)
    _catch_signals()
    terminal.prepare_streams(environ)
    if line.words.count("no-color") or is_true(environ.get("PIP_NO_COLOR")):
        environ["NO_COLOR"] = "1"  # child processes inherit it
    if line.argv and line.argv[0].partition("=")[0] in COMPLETION_OPTIONS:
        return _guarded(invocation, "completion", _offer_completion)
    command = line.route.command
    if command == "version" and re.fullmatch(r"pip[0-9.]*", Path(sys.argv[0]).name):
        command = "pip"  # programs that look for pip read its version in the second word
    topic = _help_topic(line)
    if topic is not None:
        return _show_help(topic)
    if command == "version":
        sys.stdout.write(f"safe-install {__version__} (Python {sys.version.split()[0]})\n")
        return 0
    if command == "unknown":
        return _guarded(invocation, "install", _refuse_unknown)
    if line.words.value("--python") == "":
        return _guarded(invocation, command, _refuse_empty_python)
    if command == "pip":
        return _guarded(invocation, "pip", _pass_to_pip)
    run = (commands or COMMANDS)[command]
    if command in SHARED_BY_RANKS and "SLURM_PROCID" in environ:
        run = _in_step(command, run)
    return _guarded(invocation, command, run)


def _help_topic(line: CommandLine) -> Optional[str]:
    """The command of ours whose help was requested; "help": the overview. None: no help was
    requested, or that of a command of pip.

    `help install` is ours, `help freeze` is pip's, `help` alone is --help.
    """
    command = line.route.command
    if command in OUR_COMMANDS:
        return command if line.words.count("help") else None
    if command != "pip":
        return command if command == "help" else None
    words = list(line.words.all)
    while words and not words[0].argument:
        words.pop(0)
    texts = [word.text[0] for word in words]
    if texts == ["help"]:
        return "help"
    if texts[:1] == ["help"] and texts[1] in OUR_COMMANDS:
        return texts[1]
    return None


def _guarded(invocation: Invocation, command: str, run: Run) -> int:
    """Run a command and show its result or error. The result: the exit status."""
    try:
        return _run(invocation, command, run)
    except KeyboardInterrupt:
        return 130  # while the output was written


def _run(invocation: Invocation, command: str, run: Run) -> int:
    from safe_install.cli import json_document, text
    from safe_install.cli.progress import TextReporter

    words = invocation.line.words
    as_json = command != "pip" and _wants_json(invocation)
    quiet = words.count("quiet")
    verbose = words.count("verbose") > 0
    program = _program(words, sys.argv[0])
    reporter = TextReporter(quiet=quiet, json_on_stdout=as_json, program=program)
    try:
        result = run(invocation, reporter)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - what somebody sent must not reach a terminal raw
        if reporter.made is not None:
            _ignore_signals()
        reporter.close()
        if not isinstance(error, (SafeInstallError, OSError, KeyboardInterrupt)):
            text.show_traceback(error)
        failure = _failure(error, reporter.made)
        return _show_failure(command, failure, program=program, as_json=as_json, verbose=verbose)
    finally:
        reporter.close()
    if reporter.made is not None:
        _ignore_signals()
    if isinstance(result, int):
        return result
    if as_json:
        json_document.show_document(json_document.make_document(result))
        return result.exit_status
    text.show_result(
        result, quiet=reporter.quiet, program=program, verbose=verbose, said=reporter.said
    )
    return result.exit_status


def _wants_json(invocation: Invocation) -> bool:
    wanted = invocation.environ.get("SAFE_INSTALL_JSON")
    return invocation.line.words.has("--json") or is_true(wanted)


def _program(words: Words, started_as: str) -> str:
    """The command line with which other commands work on the same environment: the program as it
    was started, and --python, which the magic of a notebook gives by itself."""
    name = Path(started_as).name
    python = words.value("--python")
    if name == NOTEBOOK_MAGIC:
        program, python = name, None if python == sys.executable else python
    elif name == "__main__.py":
        program = "python -m safe_install"
    elif name.endswith(".pyz"):
        program = shlex.quote(started_as)
    elif name.endswith(".zip"):
        program = f"python {shlex.quote(started_as)}"
    else:
        program = "safe-install"
    return program if python is None else f"{program} --python {shlex.quote(python)}"


def _failure(error: BaseException, made: Optional[str]) -> SafeInstallError:
    """The error that ended the command. `made`: the change that it had committed before."""
    if isinstance(error, SafeInstallError):
        failure = error
    elif isinstance(error, OSError):
        failure = SystemFailed(
            f"{error}: the environment is as it was", hint=hint_for_oserror(error)
        )
    elif isinstance(error, KeyboardInterrupt):
        failure = Interrupted("interrupted: nothing was changed", signal_number=signal.SIGINT)
    else:
        failure = Unexpected(
            f"unexpected {type(error).__name__}: {error}",
            hint="This is a mistake of safe-install: please report it with the lines above.",
        )
    if made is not None:
        failure.message = f"{failure.message.partition(': ')[0]} after the change was made, verified and kept ({made})"
        failure.hint = f"Nothing is left to be done; to take it back: safe-install undo {made}"
    return failure


def _ignore_signals() -> None:
    """Ignore signals from here on: everything is done except the output."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_IGN)


def _show_failure(
    command: str, error: SafeInstallError, *, program: str, as_json: bool, verbose: bool
) -> int:
    from safe_install.cli import json_document, text

    if as_json:
        outcome = OUTCOMES.get(error.exit_status, Outcome.ERROR)
        empty = InstallResult(
            command, outcome, error.exit_status, error.environment, details=error.details
        )
        json_document.show_document(json_document.make_document(empty, error))
    text.show_error(error, command, program=program, verbose=verbose)
    return error.exit_status


def _catch_signals() -> None:
    """SIGTERM and SIGHUP end a command like Ctrl-C: child processes ended, stage removed, lock
    released."""

    def end(number: int, _: object) -> None:
        raise Interrupted(
            f"ended by {signal.Signals(number).name}: nothing was changed", signal_number=number
        )

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)


# --- the commands ---------------------------------------------------------------------------------


def _refuse_unknown(invocation: Invocation, reporter: Reporter) -> NoReturn:
    raise unknown_command(invocation.arguments)


def _refuse_empty_python(invocation: Invocation, reporter: Reporter) -> NoReturn:
    """`--python "$VENV"`, and nobody has set VENV: another environment than the one that is meant
    would be changed."""
    raise UsageError("--python is empty", hint="Name an environment, or leave --python out.")


def _read_request(
    invocation: Invocation, parse: Callable[..., Request]
) -> Tuple[Request, NetworkSettings]:
    """(the request of a command with pip's options, the network settings). `parse`: reads the words
    with pip's configuration."""
    from safe_install.cli.locations import copy_streams, read_location
    from safe_install.environment.interpreter import find_interpreter
    from safe_install.resolve.request import parse_network
    from safe_install.system.pip_configuration import read_configuration

    prefix = find_interpreter(invocation.python, invocation.environ).parent.parent
    configuration = read_configuration(prefix, invocation.environ, "install")
    words = copy_streams(invocation.line.words)
    network = parse_network(words, configuration)
    request = parse(
        words,
        environ=invocation.environ,
        configuration=configuration,
        read=partial(read_location, world=reading_world(invocation, Reporter(), network)),
    )
    return request, network


def _install(
    invocation: Invocation, reporter: Reporter, mending: Optional[Mending] = None
) -> Answer:
    from safe_install.resolve.request import parse_install

    stages = invocation.line.route.command == "stage"
    if stages and invocation.line.words.has("--bundle"):
        from safe_install.cli.bundled import stage_named

        return stage_named(invocation, reporter)
    if stages and invocation.line.words.has("--remove"):
        return remove(invocation, reporter)
    request, _ = _read_request(invocation, partial(parse_install, exists=os.path.exists))
    if request.place not in (None, "user"):
        from safe_install.cli.passing import install_elsewhere

        return install_elsewhere(request, invocation.environ, stages=stages)
    heed_output_options(reporter, request)
    warn_of_passed_over(request.own, reporter)
    with probing(invocation) as probe:
        from safe_install.commands.install import install

        world = filling_world(invocation, reporter, request.network)
        return install(request, world, probe, stages=stages, mending=mending)


def heed_output_options(reporter: Reporter, request: InstallRequest) -> None:
    """Apply pip's options on the amount and destination of output."""
    reporter.quiet = max(reporter.quiet, request.quiet)  # PIP_QUIET and pip.conf, too
    reporter.log_file = request.log_file
    reporter.shows_progress = request.shows_progress


def remove(invocation: Invocation, reporter: Reporter) -> Answer:
    """`uninstall NAME...`, and `stage --remove NAME...`."""
    from safe_install.resolve.request import parse_uninstall

    command = invocation.line.route.command
    request, network = _read_request(invocation, partial(parse_uninstall, command=command))
    reporter.quiet = max(reporter.quiet, request.quiet)
    reporter.log_file = request.log_file
    with probing(invocation) as probe:
        from safe_install.commands.uninstall import uninstall

        world = filling_world(invocation, reporter, network)
        return uninstall(request, world, probe, stages=command == "stage")


def _sync(invocation: Invocation, reporter: Reporter) -> Answer:
    from safe_install.snapshot.sync_request import parse_sync

    request, _ = _read_request(invocation, partial(parse_sync, exists=os.path.exists))
    heed_output_options(reporter, request.install)
    warn_of_passed_over(request.install.own, reporter)
    with probing(invocation) as probe:
        from safe_install.commands.sync import sync

        return sync(request, filling_world(invocation, reporter, request.install.network), probe)


def _explain(invocation: Invocation, reporter: Reporter) -> Answer:
    from safe_install.commands.explain import explain
    from safe_install.resolve.explain_request import parse_explain

    request, _ = _read_request(invocation, partial(parse_explain, exists=os.path.exists))
    warn_of_passed_over(request.own, reporter)
    return explain(request, filling_world(invocation, reporter, request.install.network))


def _bundle(invocation: Invocation, reporter: Reporter) -> Answer:
    from safe_install.commands.bundle import bundle
    from safe_install.resolve.bundle_request import parse_bundle

    request, _ = _read_request(invocation, partial(parse_bundle, exists=os.path.exists))
    heed_output_options(reporter, request.install)
    warn_of_passed_over(request.install.own, reporter)
    return bundle(request, filling_world(invocation, reporter, request.install.network))


def _by_typer(command: str) -> Run:
    def run(invocation: Invocation, reporter: Reporter) -> Answer:
        from safe_install.cli.options import run_command

        network = DEFAULT_NETWORK
        if command in ("wheels", "export"):
            network = configured_network(invocation, invocation.line.words)
        return run_command(
            command, invocation.arguments, reading_world(invocation, reporter, network)
        )

    return run


def _doctor(invocation: Invocation, reporter: Reporter) -> Answer:
    examine = _by_typer("doctor")
    if not invocation.line.words.has("--fix"):
        return examine(invocation, reporter)
    from safe_install.cli.fixing import Fixing

    fixing = Fixing(invocation.line.words, reporter, _run_inside(invocation, reporter))
    return fixing.run(partial(examine, invocation, reporter))


def _run_inside(invocation: Invocation, reporter: Reporter) -> RunInside:
    """A function that runs another command of ours on the same environment."""

    def run(words: Sequence[str], mending: Optional[Mending] = None) -> Answer:
        inner = Invocation(within(invocation.line, words), invocation.environ)
        if mending is not None:
            return _install(inner, reporter, mending)
        return COMMANDS[words[0]](inner, reporter)

    return run


def _fleet(invocation: Invocation, reporter: Reporter) -> Answer:
    from safe_install.cli.fleet_front import run_fleet

    return run_fleet(invocation, reporter)


def _in_step(command: str, run: Run) -> Run:
    def run_here(invocation: Invocation, reporter: Reporter) -> Answer:
        from safe_install.cli.ranks import run_in_step

        return run_in_step(command, run, invocation, reporter, _run_inside(invocation, reporter))

    return run_here


COMMANDS: Dict[str, Run] = {
    "fleet": _fleet,
    "doctor": _doctor,
    "install": _install,
    "stage": _install,
    "uninstall": remove,
    "explain": _explain,
    "sync": _sync,
    "bundle": _bundle,
}
COMMANDS.update((name, _by_typer(name)) for name in OUR_COMMANDS if name not in COMMANDS)


def _offer_completion(invocation: Invocation, reporter: Reporter) -> int:
    from safe_install.cli.completion.shells import offer

    sys.stdout.write(offer(invocation.line.argv, sys.argv[0], invocation.environ))
    return 0


def _pass_to_pip(invocation: Invocation, reporter: Reporter) -> int:
    """Run pip with the words as they are, without our --python, which selects the pip."""
    from safe_install.cli.passing import run_pip
    from safe_install.environment.interpreter import find_interpreter

    arguments: List[str] = []
    for word in invocation.line.words.all:
        if word.name != "--python" or word.value is None:
            arguments += word.text
    executable = find_interpreter(invocation.python, invocation.environ)
    return run_pip(executable, arguments, invocation.environ)


def _show_help(topic: str) -> int:
    from safe_install.cli.options import show_help

    return show_help(None if topic == "help" else topic)
