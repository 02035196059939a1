"""Declares the commands and options of the table to Typer: all help, and the parsing of the
commands without pip's options."""

from __future__ import annotations

import inspect
import signal
import sys
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

import typer

from safe_install.cli.invocation import warn_of_passed_over
from safe_install.cli.translation.speech import say
from safe_install.errors import Interrupted, UsageError
from safe_install.models import InstallResult
from safe_install.ports import World
from safe_install.resolve.command_line import Word
from safe_install.resolve.option_rows import CommandRow, Kind, OptionRow
from safe_install.resolve.options_table import BY_COMMAND, COMMANDS, GROUPS
from safe_install.resolve.own_options import OwnOptions, own_options

TAKING_PIP_OPTIONS = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "help_option_names": ["-h", "--help"],
}

HELP = """\
Usage: safe-install REQ... [OPTIONS]
       safe-install COMMAND [ARGS]...

pip install for PyTorch extensions: the wheel that fits the installed torch,
checked before and after the change, taken back if it broke the environment.

  safe-install torch-scatter           install it (every option of pip install)
  safe-install --dry-run xformers      show the plan, change nothing
  safe-install undo                    take the last change back

{commands}

All other commands are pip's, with pip's output and exit status: list, freeze,
show, download, check, cache, config, index, lock, ...

Options:
  --version                     show the version and exit
  --install-completion [SHELL]  complete words in bash, zsh or fish
  --show-completion [SHELL]     print the script for that
  --help                        show this message and exit

safe-install help COMMAND shows the options of a command.
"""

# click's UsageError: newer typer carries a click of its own, so it is found from typer's side.
WORDS_NOT_UNDERSTOOD: Any = typer.BadParameter.__mro__[1]
TYPES: Mapping[Kind, Any] = {
    Kind.SWITCH: bool,
    Kind.TEXT: Optional[str],
    Kind.NAMES: Optional[List[str]],
    Kind.NUMBER: int,
}

Run = Callable[..., InstallResult]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


# --- declarations from the table ------------------------------------------------------------------


def declare(command: CommandRow, run: Optional[Run]) -> None:
    """Declare a command to Typer. `run`: its function, called with the world, our options and the
    values of its own options. None: it is only declared, because pip's options must keep their
    order and spelling."""

    def call(context: typer.Context, **values: Any) -> Optional[InstallResult]:
        if run is None:
            return None
        own = own_options(_words_of(command, values), context.obj.environ, command.options)
        shared = {option.field for option in command.options if hasattr(own, option.field)}
        own_values = {name: value for name, value in values.items() if name not in shared}
        warn_of_passed_over(own, context.obj.reporter)
        try:
            return run(context.obj, own, **own_values)
        except KeyboardInterrupt as error:
            # Typer would turn the result into an exit status and print nothing.
            raise Interrupted(
                "interrupted: nothing was changed", signal_number=signal.SIGINT
            ) from error

    # Typer reads the function's signature, which is made here.
    parameters = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    ]
    parameters += [_declare_argument(command)] if command.argument is not None else []
    parameters += [_declare_option(option) for option in command.options]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    context_settings = TAKING_PIP_OPTIONS if command.takes_pip_options else None
    app.command(command.name, context_settings=context_settings, help=command.help)(call)


def _declare_option(option: OptionRow) -> inspect.Parameter:
    if option.kind is Kind.SWITCH:
        declared = typer.Option(False, *_names_of(option), help=option.help)
    elif option.kind is Kind.NUMBER:
        declared = typer.Option(
            option.default, option.name, metavar=option.metavar, min=0, help=option.help
        )
    else:
        declared = typer.Option(None, *_names_of(option), metavar=option.metavar, help=option.help)
    return _parameter(option.field, declared, TYPES[option.kind])


def _names_of(option: OptionRow) -> List[str]:
    return [option.name, option.short] if option.short else [option.name]


def _declare_argument(command: CommandRow) -> inspect.Parameter:
    name, metavar = command.argument_field, command.argument or ""
    default: Any = ... if command.argument_required else None
    if not metavar.endswith("..."):
        declared = typer.Argument(default, metavar=metavar, help=command.argument_help)
        return _parameter(name, declared, str if command.argument_required else Optional[str])
    declared = typer.Argument(default, metavar=metavar, help=command.argument_help)
    return _parameter(name, declared, List[str])


def _parameter(name: str, default: object, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _words_of(command: CommandRow, values: Mapping[str, Any]) -> List[Word]:
    """The values of our options that Typer has parsed, as words; only options that were given."""
    words: List[Word] = []
    for option in command.options:
        value = values[option.field]
        if option.kind is Kind.SWITCH:
            words += [Word(None, option.name, None, ())] if value else []
        elif option.kind is Kind.NAMES:
            words += [Word(None, option.name, name, ()) for name in value or ()]
        elif value is not None:
            words.append(Word(None, option.name, str(value), ()))
    return words


# --- what the commands do -------------------------------------------------------------------------


def run_verify(world: World, own: OwnOptions) -> InstallResult:
    """Exit status 0 healthy, 1 not."""
    from safe_install.commands.verify import verify

    return verify(
        world, python=own.python, require_cuda=own.require_cuda, check_timeout=own.check_timeout
    )


def run_doctor(
    world: World,
    own: OwnOptions,
    *,
    checks: Optional[List[str]],
    quick: bool,
    deep: bool,
    list: bool,
    report: bool,
    fix: bool,
    yes: bool,
) -> InstallResult:
    """Exit status 0 where no error was found, else 1. --fix is done by `cli.fixing`."""
    from safe_install.commands.doctor import check_names, doctor, list_checks

    if list:
        return list_checks()
    return doctor(
        world,
        python=own.python,
        quick=quick,
        deep=deep,
        check_timeout=own.check_timeout,
        with_report=report,
        fix_of=check_names(checks or (), fix=fix) if fix or checks else None,
    )


def run_history(
    world: World, own: OwnOptions, *, prune: bool, keep: int, user: bool
) -> InstallResult:
    """Newest first."""
    from safe_install.commands.history import list_history

    return list_history(world, python=own.python, user=user, prune=prune, keep=keep)


def run_undo(
    world: World, own: OwnOptions, *, transaction: Optional[str], force: bool, user: bool
) -> InstallResult:
    """Verified and journalled, as an install is."""
    from safe_install.commands.undo import undo

    return undo(
        world,
        python=own.python,
        user=user,
        transaction_id=transaction,
        force=force,
        no_rollback=own.no_rollback,
        check_timeout=own.check_timeout,
    )


def run_export(
    world: World,
    own: OwnOptions,
    *,
    format: Optional[str],
    output: Optional[str],
    at: Optional[str],
    wheels: Optional[str],
) -> InstallResult:
    """Exit status 0 even where a source is not known; that is reported."""
    from safe_install.commands.export import export

    return export(
        world,
        python=own.python,
        format_name=format,
        output=output,
        at=at,
        wheels=wheels,
        offline=own.offline,
    )


def run_recover(world: World, own: OwnOptions, *, user: bool) -> InstallResult:
    """Exit status 13 where it fails, with a command that helps."""
    from safe_install.commands.recover import recover

    return recover(world, python=own.python, user=user, check_timeout=own.check_timeout)


def run_check_wheel(
    world: World, own: OwnOptions, *, files: List[str], torch_dir: Optional[str]
) -> InstallResult:
    """Exit status 0 fits, 1 does not."""
    from safe_install.commands.check_wheel import check_wheel

    return check_wheel(world, files, own, torch_dir=torch_dir)


def run_wheels(
    world: World,
    own: OwnOptions,
    *,
    projects: Optional[List[str]],
    check: bool,
    update: Optional[str],
    torch: Optional[str],
    python_version: Optional[str],
    platform: Optional[str],
) -> InstallResult:
    """Exit status of --check: 1 when a host does not answer or no longer lists a known file."""
    from safe_install.commands.wheels import check_wheels, show_wheels, update_wheels

    if update is not None:
        return update_wheels(world, update, own)
    show = check_wheels if check else show_wheels
    machine = {"torch": torch, "python_version": python_version, "platform": platform}
    return show(world, projects or (), own, machine=machine)


def run_commit(world: World, own: OwnOptions, *, identifier: str, user: bool) -> InstallResult:
    """Exit status 12 where it was rolled back, now or before; 11 where it does not fit."""
    from safe_install.commands.commit import commit

    return commit(
        world,
        python=own.python,
        user=user,
        identifier=identifier,
        check_timeout=own.check_timeout,
    )


def run_abandon(world: World, own: OwnOptions, *, identifier: str, user: bool) -> InstallResult:
    """Exit status 0 where nothing of it is left."""
    from safe_install.commands.abandon import abandon

    return abandon(world, python=own.python, user=user, identifier=identifier)


def run_status(
    world: World, own: OwnOptions, *, identifier: Optional[str], user: bool
) -> InstallResult:
    """Always exit status 0."""
    from safe_install.commands.status import status

    return status(world, python=own.python, user=user, identifier=identifier)


def run_inventory(world: World, own: OwnOptions) -> InstallResult:
    """Exit status 0."""
    from safe_install.commands.inventory import inventory

    return inventory(world, python=own.python)


def run_diff(world: World, own: OwnOptions, *, sides: List[str], user: bool) -> InstallResult:
    """Exit status 0 where they are equal, 1 where they differ, 2 for an error."""
    from safe_install.cli.locations import read_location
    from safe_install.commands.diff import diff

    return diff(
        world, sides, python=own.python, user=user, read=partial(read_location, world=world)
    )


def run_check_bundle(world: World, own: OwnOptions, *, file: Optional[str]) -> InstallResult:
    """Exit status 11 where it is damaged."""
    from safe_install.commands.check_bundle import check

    if file is None:
        raise UsageError("check-bundle needs a file", hint="Name it: check-bundle FILE.zip.")
    return check(world, file)


RUNS: Mapping[str, Run] = {
    "doctor": run_doctor,
    "verify": run_verify,
    "export": run_export,
    "history": run_history,
    "undo": run_undo,
    "recover": run_recover,
    "check-bundle": run_check_bundle,
    "check-wheel": run_check_wheel,
    "diff": run_diff,
    "wheels": run_wheels,
    "commit": run_commit,
    "abandon": run_abandon,
    "status": run_status,
    "inventory": run_inventory,
}
for row in COMMANDS:
    declare(row, RUNS.get(row.name))


def run_command(command: str, arguments: Sequence[str], world: World) -> Union[InstallResult, int]:
    """Run one of the commands that Typer parses. Errors: UsageError in place of click's own."""
    group = typer.main.get_command(app)
    try:
        result: Union[InstallResult, int] = group.main(
            args=[command, *arguments], prog_name="safe-install", standalone_mode=False, obj=world
        )
        return result
    except WORDS_NOT_UNDERSTOOD as error:
        # click's, for an option that it does not have
        similar = getattr(error, "possibilities", None)
        hint = f"Did you mean: {similar[0]}?" if similar else f"See safe-install {command} --help."
        raise UsageError(str(error), hint=hint) from error


# --- help -----------------------------------------------------------------------------------------


def show_help(command: Optional[str]) -> int:
    """The help of one command, or of all."""
    if command is None:
        sys.stdout.write(say(HELP.format(commands=render_commands())).rstrip() + "\n")
        return 0
    group: Any = typer.main.get_command(app)
    _say_help(group.commands[command])
    group.main(args=[command, "--help"], prog_name="safe-install", standalone_mode=False)
    return 0


def _say_help(command: Any) -> None:
    """Show help in the user's language; click's own words stay in English."""
    command.help = say(command.help)
    for parameter in command.params:
        if getattr(parameter, "help", None):
            parameter.help = say(parameter.help)


def render_commands() -> str:
    """The overview: a line for each command, below the heading of its group."""
    width = max(len(name) for name in BY_COMMAND)
    lines: Dict[str, List[str]] = {group: [say(f"{group}:")] for group in GROUPS}
    for command in COMMANDS:
        lines[command.group].append(f"  {command.name.ljust(width)}  {say(command.summary)}")
    return "\n\n".join("\n".join(lines[group]) for group in GROUPS)
