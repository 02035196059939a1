"""The commands and their options, declared to Typer: the help of all, and the words of those that are not pip's."""

from __future__ import annotations

import sys
from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Set

import typer

from safe_install.errors import UsageError
from safe_install.ports import World

CONTEXT = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": ["-h", "--help"]}

HELP = """\
Usage: safe-install REQ... [OPTIONS]
       safe-install COMMAND [ARGS]...

pip install for PyTorch extensions: the wheel that fits the installed torch,
checked before and after the change, taken back if it broke the environment.

  safe-install torch-scatter           install it (every option of pip install)
  safe-install --dry-run xformers      show the plan, change nothing
  safe-install undo                    take the last change back

Change:
  install      REQ... and what pip install takes; the word may be left out
  uninstall    what pip uninstall takes
  undo         take a past change back: the newest, or the one named
  recover      finish or undo a change that was killed

Look:
  explain      which file would be chosen, and why not each other one
  wheels       which wheels are known, by torch and accelerator
  check-wheel  would this wheel file load here?

Environment:
  verify       is it healthy now? does torch compute, is CUDA available?
  history      past changes, and the space that their undo takes

All other commands are pip's, with pip's output and exit status: list, freeze,
show, download, check, cache, config, index, lock, ...

Options:
  --version                     show the version and exit
  --install-completion [SHELL]  complete words in bash, zsh or fish
  --show-completion [SHELL]     print the script for that
  --help                        show this message and exit

safe-install help COMMAND shows the options of a command.
"""

INSTALL_HELP = """Install, guarded: the build that fits the installed torch, checked before and after, undone if it
broke CUDA.

Takes every argument that `pip install` takes, in any order; `safe-install torch-scatter` is the same as
`safe-install install torch-scatter`."""

# click's UsageError: newer typer carries a click of its own, so it is found from typer's side.
WORDS_NOT_UNDERSTOOD: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
)

PYTHON = typer.Option(
    None,
    "--python",
    metavar="PATH",
    help="The interpreter or environment to manage; else $VIRTUAL_ENV, $CONDA_PREFIX, the Python that runs us.",
)
JSON = typer.Option(False, "--json", help="One JSON document on stdout, all else on stderr.")
NO_ROLLBACK = typer.Option(False, "--no-rollback", help="Keep the change even if the check after it fails.")
REQUIRE_CUDA = typer.Option(False, "--require-cuda", help="Fail unless torch.cuda.is_available() is True.")
OFFLINE = typer.Option(False, "--offline", help="Ask no wheel host: local files and the bundled facts only.")
NO_BUILD = typer.Option(False, "--no-build", help="Never build from source.")
NO_TOOLKIT = typer.Option(
    False, "--no-toolkit", help="Never fetch a CUDA toolkit from the package index to build from source."
)
BUILD_TIMEOUT = typer.Option(
    None,
    "--build-timeout",
    metavar="TIME[,TIME]",
    help="How long a source build may take, and how long without output: 2h,20m (the default); 0 for no limit.",
)
CHECK_TIMEOUT = typer.Option(
    None,
    "--check-timeout",
    metavar="SECONDS",
    help="How long each check may take, before and after the change: 300 (the default), 10m; 0 for no limit.",
)
TARGET_GPU = typer.Option(
    None, "--target-gpu", metavar="CC", help="Compute capabilities of the machine that will run this: 8.0,9.0."
)
TARGET_DRIVER = typer.Option(
    None, "--target-driver", metavar="VERSION", help="NVIDIA driver of the machine that will run this: 535.104."
)
STRICT_RECORDS = typer.Option(
    False, "--strict-records", help="Refuse a wheel whose RECORD leaves something out, even one of your own."
)
THIRD_PARTY = typer.Option(
    None, "--third-party", metavar="HOST", help="Also ask this host of somebody else's builds, as `wheels` names it."
)
USER = typer.Option(False, "--user", help="Of the user site, which `install --user` changes.")
FORCE = typer.Option(False, "--force", help="Undo also what a later installed package needs.")
DRY_RUN = typer.Option(False, "--dry-run", help="Print the plan, change nothing.")
ALLOW = typer.Option(False, "--allow-torch-change", help="Permit another torch version or build.")


REQUIREMENTS = typer.Argument(None, metavar="[PIP ARGUMENTS]...")
PROJECTS = typer.Argument(None, metavar="REQ...")
TORCH = typer.Option(None, "--torch", metavar="VERSION", help="torch of a machine elsewhere: 1.8.1+cu111.")
PYTHON_VERSION = typer.Option(None, "--python-version", metavar="X.Y", help="Its Python: 3.8.")
PLATFORM = typer.Option(None, "--platform", metavar="TAG", help="Its platform: linux_x86_64, manylinux_2_28_x86_64.")
CXX11_ABI = typer.Option(None, "--cxx11-abi", metavar="true|false", help="The C++ ABI of its torch.")
PRUNE = typer.Option(False, "--prune", help="Let the oldest go: their undo is no longer possible.")
KEEP = typer.Option(5, "--keep", metavar="N", min=0, help="How many --prune keeps; 0 in an image that needs no undo.")
TRANSACTION = typer.Argument(None, metavar="[ID]", help="As `history` shows it.")


INDEX_PROJECTS = typer.Argument(None, metavar="[PROJECT]...")
WHEEL_FILES = typer.Argument(..., metavar="FILE...")
TORCH_DIR = typer.Option(None, "--torch-dir", metavar="DIR", help="A torch that is unpacked there, not installed.")
CHECK = typer.Option(False, "--check", help="Ask the hosts whether they answer and still list what is known.")
UPDATE = typer.Option(
    None, "--update", metavar="URL", help="Take the newer index file at this URL or path, which ends in #sha256=HEX."
)


@app.command("install", context_settings=CONTEXT, help=INSTALL_HELP)
def declare_install(
    requirements: List[str] = REQUIREMENTS,
    python: Optional[str] = PYTHON,
    dry_run: bool = DRY_RUN,
    json: bool = JSON,
    allow_torch_change: bool = ALLOW,
    require_cuda: bool = REQUIRE_CUDA,
    no_rollback: bool = NO_ROLLBACK,
    no_build: bool = NO_BUILD,
    no_toolkit: bool = NO_TOOLKIT,
    build_timeout: Optional[str] = BUILD_TIMEOUT,
    check_timeout: Optional[str] = CHECK_TIMEOUT,
    offline: bool = OFFLINE,
    strict_records: bool = STRICT_RECORDS,
    target_gpu: Optional[str] = TARGET_GPU,
    target_driver: Optional[str] = TARGET_DRIVER,
    third_party: Optional[List[str]] = THIRD_PARTY,
) -> None:
    """Only declared: `resolve.request` reads the words."""


@app.command(
    "uninstall", context_settings=CONTEXT, help="Uninstall, guarded the same way. Takes pip uninstall's arguments."
)
def declare_uninstall(
    names: List[str] = REQUIREMENTS,
    python: Optional[str] = PYTHON,
    json: bool = JSON,
    no_rollback: bool = NO_ROLLBACK,
    check_timeout: Optional[str] = CHECK_TIMEOUT,
) -> None:
    """Only declared: `resolve.request` reads the words."""


@app.command("explain", context_settings=CONTEXT, help="Which file would be chosen, and why not each other one.")
def declare_explain(
    requirements: List[str] = PROJECTS,
    python: Optional[str] = PYTHON,
    torch: Optional[str] = TORCH,
    python_version: Optional[str] = PYTHON_VERSION,
    platform: Optional[str] = PLATFORM,
    cxx11_abi: Optional[str] = CXX11_ABI,
    json: bool = JSON,
    no_build: bool = NO_BUILD,
    offline: bool = OFFLINE,
    target_gpu: Optional[str] = TARGET_GPU,
    target_driver: Optional[str] = TARGET_DRIVER,
    third_party: Optional[List[str]] = THIRD_PARTY,
) -> None:
    """Only declared: `resolve.request` reads the words."""


@app.command(
    "verify", help="Is this environment healthy now? For HEALTHCHECK, entry points, the first start of a container."
)
def run_verify(
    context: typer.Context,
    python: Optional[str] = PYTHON,
    require_cuda: bool = REQUIRE_CUDA,
    check_timeout: Optional[str] = CHECK_TIMEOUT,
    json: bool = JSON,
) -> Any:
    """Exit status 0 healthy, 1 not."""
    from safe_install.commands.verify import verify

    return verify(
        context.obj,
        python=_python(python, context),
        require_cuda=require_cuda or _flag("REQUIRE_CUDA", context),
        check_timeout=_check_timeout(check_timeout, context),
    )


@app.command("history", help="Past changes of this environment, and the space that their undo takes.")
def run_history(
    context: typer.Context,
    python: Optional[str] = PYTHON,
    prune: bool = PRUNE,
    keep: int = KEEP,
    user: bool = USER,
    json: bool = JSON,
) -> Any:
    """Newest first."""
    from safe_install.commands.history import list_history

    return list_history(context.obj, python=_python(python, context), user=user, prune=prune, keep=keep)


@app.command("undo", help="Take a past change back: the newest, or the one named.")
def run_undo(
    context: typer.Context,
    transaction: Optional[str] = TRANSACTION,
    python: Optional[str] = PYTHON,
    no_rollback: bool = NO_ROLLBACK,
    check_timeout: Optional[str] = CHECK_TIMEOUT,
    force: bool = FORCE,
    user: bool = USER,
    json: bool = JSON,
) -> Any:
    """Verified and journalled, as an install is."""
    from safe_install.commands.undo import undo

    return undo(
        context.obj,
        python=_python(python, context),
        user=user,
        transaction_id=transaction,
        force=force,
        no_rollback=no_rollback or _flag("NO_ROLLBACK", context),
        check_timeout=_check_timeout(check_timeout, context),
    )


@app.command("recover", help="Finish or undo a change that was killed. Every changing command does this first.")
def run_recover(
    context: typer.Context,
    python: Optional[str] = PYTHON,
    check_timeout: Optional[str] = CHECK_TIMEOUT,
    user: bool = USER,
    json: bool = JSON,
) -> Any:
    """Exit status 13 when it cannot, with the command that helps."""
    from safe_install.commands.recover import recover

    limit = _check_timeout(check_timeout, context)
    return recover(context.obj, python=_python(python, context), user=user, check_timeout=limit)


@app.command("check-wheel", help="Would these wheel files load here? They are read, and nothing of them is executed.")
def run_check_wheel(
    context: typer.Context,
    files: List[str] = WHEEL_FILES,
    python: Optional[str] = PYTHON,
    torch_dir: Optional[str] = TORCH_DIR,
    target_gpu: Optional[str] = TARGET_GPU,
    target_driver: Optional[str] = TARGET_DRIVER,
    json: bool = JSON,
) -> Any:
    """Exit status 0 fits, 1 does not."""
    from safe_install.commands.check_wheel import check_wheel
    from safe_install.resolve.own_options import own_options

    values = {"--python": python, "--target-gpu": target_gpu, "--target-driver": target_driver}
    own = own_options(values, context.obj.environ)
    return check_wheel(context.obj, files, own, torch_dir=torch_dir)


@app.command("wheels", help="What the wheel index knows: a project's wheels by torch and accelerator, or all projects.")
def run_wheels(
    context: typer.Context,
    projects: Optional[List[str]] = INDEX_PROJECTS,
    check: bool = CHECK,
    update: Optional[str] = UPDATE,
    python: Optional[str] = PYTHON,
    torch: Optional[str] = TORCH,
    python_version: Optional[str] = PYTHON_VERSION,
    platform: Optional[str] = PLATFORM,
    third_party: Optional[List[str]] = THIRD_PARTY,
    offline: bool = OFFLINE,
    json: bool = JSON,
) -> Any:
    """Exit status of --check: 1 when a host does not answer or no longer lists a known file."""
    from safe_install.commands.wheels import check_wheels, show_wheels, update_wheels
    from safe_install.resolve.own_options import OwnOptions, split_names

    named = third_party or [context.obj.environ.get("SAFE_INSTALL_THIRD_PARTY", "")]
    own = OwnOptions(
        python=_python(python, context),
        offline=offline or _flag("OFFLINE", context),
        third_party=split_names(named),
    )
    if update is not None:
        return update_wheels(context.obj, update, own)
    show = check_wheels if check else show_wheels
    machine = {"torch": torch, "python_version": python_version, "platform": platform}
    return show(context.obj, projects or (), own, machine=machine)


def _python(written: Optional[str], context: typer.Context) -> Optional[str]:
    return written or context.obj.environ.get("SAFE_INSTALL_PYTHON") or None


def _check_timeout(written: Optional[str], context: typer.Context) -> Optional[float]:
    from safe_install.resolve.own_options import parse_check_timeout

    return parse_check_timeout(written or context.obj.environ.get("SAFE_INSTALL_CHECK_TIMEOUT") or None)


def _flag(name: str, context: typer.Context) -> bool:
    from safe_install.resolve.pip_settings import is_true

    return is_true(context.obj.environ.get(f"SAFE_INSTALL_{name}"))


def run_command(command: str, arguments: Sequence[str], world: World) -> Any:
    """Run one of the commands that Typer reads. Errors: UsageError in place of click's own."""
    group = typer.main.get_command(app)
    try:
        return group.main(args=[command, *arguments], prog_name="safe-install", standalone_mode=False, obj=world)
    except WORDS_NOT_UNDERSTOOD as error:
        similar = getattr(error, "possibilities", None)  # click's, for an option that it does not have
        hint = f"Did you mean: {similar[0]}?" if similar else f"See safe-install {command} --help."
        raise UsageError(str(error), hint=hint) from error


def show_help(command: Optional[str]) -> int:
    """The help of one command, or of all."""
    if command is None:
        sys.stdout.write(HELP)
        return 0
    group = typer.main.get_command(app)
    group.main(args=[command, "--help"], prog_name="safe-install", standalone_mode=False)
    return 0


def declared_options() -> Dict[str, List[str]]:
    """Every option of every command, for the test that compares them with the README."""
    group = typer.main.get_command(app)
    commands: Dict[str, Any] = getattr(group, "commands", {})
    return {
        name: [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        for name, command in commands.items()
    }


def value_options() -> FrozenSet[str]:
    """Every option that takes a value, of all commands."""
    group = typer.main.get_command(app)
    found: Set[str] = set()
    for command in getattr(group, "commands", {}).values():
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.is_flag:
                found.update(parameter.opts)
    return frozenset(found)
