"""Our commands and options as one table, used for parsing, help, completion and documentation.

A new option is one row of OPTIONS, and its name in the rows of its commands; a new command is one
row of COMMANDS. pip's own are in `pip_options`. This module imports little, because shell
completion loads it at each key press.
"""

from __future__ import annotations

from typing import Mapping, Tuple

from safe_install.resolve.option_rows import CommandRow, Kind, OptionRow

OPTIONS: Tuple[OptionRow, ...] = (
    OptionRow(
        "--python",
        "The interpreter or environment to manage; else $VIRTUAL_ENV, $CONDA_PREFIX, the Python "
        "that runs us.",
        Kind.TEXT,
        "PATH",
        has_variable=True,
    ),
    OptionRow("--json", "One JSON document on stdout, all else on stderr.", has_variable=True),
    OptionRow("--dry-run", "Print the plan, change nothing.", has_variable=True),
    OptionRow("--allow-torch-change", "Permit another torch version or build.", has_variable=True),
    OptionRow(
        "--keep-extensions",
        "Leave installed extensions as they are when torch moves; else those that need it go "
        "along.",
        has_variable=True,
    ),
    OptionRow(
        "--no-direct-url",
        "Do not write down the address of a wheel that no package index has; then pip freeze does "
        "not name it.",
        has_variable=True,
    ),
    OptionRow(
        "--require-cuda", "Fail unless torch.cuda.is_available() is True.", has_variable=True
    ),
    OptionRow(
        "--no-rollback", "Keep the change even if the check after it fails.", has_variable=True
    ),
    OptionRow("--no-build", "Never build from source.", has_variable=True),
    OptionRow(
        "--no-toolkit",
        "Never fetch a CUDA toolkit from the package index to build from source.",
        has_variable=True,
    ),
    OptionRow(
        "--build-timeout",
        "How long a source build may take, and how long without output: 2h,20m (the default); 0 "
        "for no limit.",
        Kind.TEXT,
        "TIME[,TIME]",
        has_variable=True,
    ),
    OptionRow(
        "--check-timeout",
        "How long each check may take, before and after the change: 300 (the default), 10m; 0 for "
        "no limit.",
        Kind.TEXT,
        "SECONDS",
        has_variable=True,
    ),
    OptionRow(
        "--offline", "Ask no wheel host: local files and the bundled facts only.", has_variable=True
    ),
    OptionRow(
        "--strict-records",
        "Refuse a wheel whose RECORD leaves something out, even one of your own.",
        has_variable=True,
    ),
    OptionRow(
        "--target-gpu",
        "Compute capabilities of the machine that will run this: 8.0,9.0.",
        Kind.TEXT,
        "CC",
        has_variable=True,
    ),
    OptionRow(
        "--target-driver",
        "NVIDIA driver of the machine that will run this: 535.104.",
        Kind.TEXT,
        "VERSION",
        has_variable=True,
    ),
    OptionRow(
        "--accelerator",
        "The build of torch that comes: cpu, cu126, rocm6.4, xpu; auto (the default): by the "
        "driver.",
        Kind.TEXT,
        "NAME",
        has_variable=True,
        choices=("auto", "cpu", "cu118", "cu126", "cu128", "cu130", "cu132", "rocm6.4", "xpu"),
    ),
    OptionRow(
        "--third-party",
        "Also ask this host of somebody else's builds, as `wheels` names it.",
        Kind.NAMES,
        "HOST",
        has_variable=True,
    ),
    OptionRow(
        "--ttl",
        "How long the change stays staged: 24h (the default), 7d; 0 for no limit.",
        Kind.TEXT,
        "TIME",
    ),
    OptionRow(
        "--run",
        "For which run on many machines: the same words for another run are another change.",
        Kind.TEXT,
        "RUN",
    ),
    OptionRow(
        "--bundle",
        "Take all files from this bundle, and none from a network; without REQ what it was made "
        "for.",
        Kind.TEXT,
        "FILE",
    ),
    OptionRow("--remove", "Stage the removal of what is named, in place of an install."),
    OptionRow("--torch", "torch of a machine elsewhere: 1.8.1+cu111.", Kind.TEXT, "VERSION"),
    OptionRow("--python-version", "Its Python: 3.8.", Kind.TEXT, "X.Y"),
    OptionRow("--platform", "Its platform: linux_x86_64, manylinux_2_28_x86_64.", Kind.TEXT, "TAG"),
    OptionRow(
        "--cxx11-abi",
        "The C++ ABI of its torch.",
        Kind.TEXT,
        "true|false",
        choices=("false", "true"),
    ),
    OptionRow(
        "--installed",
        "What the machine has already, its `inventory --json`: wheels of that are left out.",
        Kind.TEXT,
        "FILE",
    ),
    OptionRow("--torch-dir", "A torch that is unpacked there, not installed.", Kind.TEXT, "DIR"),
    OptionRow("--check", "Ask the hosts whether they answer and still list what is known."),
    OptionRow("--keep-extra", "Leave what the file does not name; else it is removed."),
    OptionRow("--allow-empty", "Take a file that names nothing: all that is installed goes."),
    OptionRow(
        "--update",
        "Take the newer index file at this URL or path, which ends in #sha256=HEX.",
        Kind.TEXT,
        "URL",
    ),
    OptionRow("--quick", "Import nothing: only what files and the driver say."),
    OptionRow("--deep", "Compare every recorded file by its hash, not by its size."),
    OptionRow("--list", "List the checks."),
    OptionRow("--fix", "Carry out what can be carried out inside the environment, then ask again."),
    OptionRow("--yes", "Do not ask before --fix.", short="-y"),
    OptionRow(
        "--report", "A block for an issue: collect_env's fields, the extensions, what was found."
    ),
    OptionRow(
        "--format",
        "pylock (the default), requirements, environment.yml, uv, dockerfile or markdown; else the "
        "name of the file says it.",
        Kind.TEXT,
        "FORMAT",
        choices=("pylock", "requirements", "environment.yml", "uv", "dockerfile", "markdown"),
    ),
    OptionRow("--output", "Write to this file.", Kind.TEXT, "FILE", short="-o"),
    OptionRow(
        "--at",
        "The environment as it was after a past change, as `history` names it.",
        Kind.TEXT,
        "ID",
    ),
    OptionRow(
        "--wheels",
        "Put the files that only this machine has into this folder, and name them relative to the "
        "file.",
        Kind.TEXT,
        "DIR",
    ),
    OptionRow("--inventory", "The nodes, as an Ansible inventory: hosts.yml.", Kind.TEXT, "HOSTS"),
    OptionRow(
        "--limit",
        "With --inventory: the hosts and groups that are meant, as Ansible's --limit.",
        Kind.TEXT,
        "PATTERN",
    ),
    OptionRow(
        "--dask", "The nodes are those of a Dask cluster: tcp://HOST:8786.", Kind.TEXT, "ADDRESS"
    ),
    OptionRow(
        "--ray", "The nodes are those of a Ray cluster: auto, or its address.", Kind.TEXT, "ADDRESS"
    ),
    OptionRow(
        "--canary", "Change and verify so many nodes first, then the others.", Kind.NUMBER, "N"
    ),
    OptionRow(
        "--max-failures",
        "So many nodes may fail; with more all is taken back. 0, the default: all or none.",
        Kind.NUMBER,
        "N",
    ),
    OptionRow("--allow-partial", "Any number of nodes may fail; the others stay changed."),
    OptionRow(
        "--node-timeout",
        "How long a node may take for one step: 1h (the default), 20m; 0 for no limit.",
        Kind.TEXT,
        "TIME",
    ),
    OptionRow("--html", "Also write the result as one page.", Kind.TEXT, "FILE"),
    OptionRow("--user", "Of the user site, which `install --user` changes."),
    OptionRow("--force", "Undo also what a later installed package needs."),
    OptionRow("--prune", "Remove the oldest changes: they can no longer be undone."),
    OptionRow(
        "--keep",
        "How many --prune keeps; 0 in an image that needs no undo.",
        Kind.NUMBER,
        "N",
        default=5,
    ),
)
BY_NAME: Mapping[str, OptionRow] = {option.name: option for option in OPTIONS}


def _options(text: str) -> Tuple[OptionRow, ...]:
    return tuple(BY_NAME[name] for name in text.split())


OF_INSTALL = (
    "--python --dry-run --json --allow-torch-change --keep-extensions --require-cuda --no-rollback"
    " --no-build --no-toolkit --build-timeout --check-timeout --offline --strict-records"
    " --target-gpu --target-driver --accelerator --third-party --no-direct-url"
)
# Of `sync`; that of `wheels` asks hosts.
CHECK_OF_SYNC = OptionRow("--check", "Change nothing: exit 1 where something differs from FILE.")
INSTALL_HELP = """Install, guarded: the build that fits the installed torch, checked before and after, undone if it
broke CUDA.

Takes every argument that `pip install` takes, in any order; `safe-install torch-scatter` is the same as
`safe-install install torch-scatter`."""
GROUPS = (
    "Change",
    "Look",
    "Record",
    "Environment",
    "Many machines",
)  # in the order of the overview
COMMANDS: Tuple[CommandRow, ...] = (
    CommandRow(
        "install",
        "Change",
        "REQ... and what pip install takes; the word may be left out",
        INSTALL_HELP,
        _options(OF_INSTALL),
        argument="[PIP ARGUMENTS]...",
        argument_field="requirements",
        takes_pip_options=True,
    ),
    CommandRow(
        "uninstall",
        "Change",
        "what pip uninstall takes",
        "Uninstall, guarded the same way. Takes pip uninstall's arguments.",
        _options("--python --json --allow-torch-change --no-rollback --check-timeout"),
        argument="[PIP ARGUMENTS]...",
        argument_field="names",
        takes_pip_options=True,
    ),
    CommandRow(
        "sync",
        "Record",
        "make the environment exactly what a file says",
        "Make the environment exactly what a file says, in one guarded change: adds, replaces, removes. "
        "Nothing is resolved. FILE is a pylock.toml, requirements with exact pins, or an "
        "environment.yml (its pip part). Takes pip's options for indexes and builds.",
        (
            CHECK_OF_SYNC,
            *_options(
                "--keep-extra --allow-empty --dry-run --python --json --allow-torch-change "
                "--require-cuda --no-rollback --no-build --build-timeout --check-timeout --offline "
                "--strict-records --target-gpu --target-driver"
            ),
        ),
        argument="FILE",
        argument_field="file",
        takes_pip_options=True,
    ),
    CommandRow(
        "undo",
        "Change",
        "take a past change back: the newest, or the one named",
        "Take a past change back: the newest, or the one named.",
        _options("--python --no-rollback --check-timeout --force --user --json"),
        argument="[ID]",
        argument_field="transaction",
        argument_help="As `history` shows it.",
    ),
    CommandRow(
        "recover",
        "Change",
        "finish or undo a change that was killed",
        "Finish or undo a change that was killed. Every changing command does this first.",
        _options("--python --check-timeout --user --json"),
    ),
    CommandRow(
        "explain",
        "Look",
        "which file would be chosen, and why not each other one",
        "Which file would be chosen, and why not each other one.",
        _options(
            "--python --torch --python-version --platform --cxx11-abi --json --no-build --offline "
            "--target-gpu"
            " --target-driver --accelerator --third-party"
        ),
        argument="REQ...",
        argument_field="requirements",
        takes_pip_options=True,
    ),
    CommandRow(
        "bundle",
        "Record",
        "requirements in one file, for a machine without network",
        """Write requirements and all that they need into one file, for a machine without network.

There: python FILE.zip --python ENV install. For an environment such as the one here, or for the one that
--torch, --python-version and --platform describe.""",
        _options(
            "--output --python --torch --python-version --platform --cxx11-abi --installed --dry-run "
            "--json "
            "--no-build --no-toolkit --build-timeout --offline --strict-records --target-gpu "
            "--target-driver --accelerator --third-party"
        ),
        argument="[PIP ARGUMENTS]...",
        argument_field="requirements",
        takes_pip_options=True,
    ),
    CommandRow(
        "check-bundle",
        "Record",
        "is this bundle whole?",
        "Compare everything in a bundle with its hash, and say what it holds.",
        _options("--json"),
        argument="FILE",
        argument_field="file",
        argument_help="That `bundle` wrote.",
    ),
    CommandRow(
        "wheels",
        "Look",
        "which wheels are known, by torch and accelerator",
        "What the wheel index knows: a project's wheels by torch and accelerator, or all projects.",
        _options(
            "--check --update --python --torch --python-version --platform --third-party --offline "
            "--json",
        ),
        argument="[PROJECT]...",
        argument_field="projects",
    ),
    CommandRow(
        "check-wheel",
        "Look",
        "would this wheel file load here?",
        "Would these wheel files load here? They are read, and nothing of them is executed.",
        _options("--python --torch-dir --target-gpu --target-driver --json"),
        argument="FILE...",
        argument_field="files",
        argument_required=True,
    ),
    CommandRow(
        "doctor",
        "Environment",
        "what is wrong here, why, and what to do about it",
        "What is wrong with this environment, why, and what to do about it. Works where `import torch` "
        "fails, too.",
        _options(
            "--python --fix --yes --dry-run --quick --deep --list --report --check-timeout --json"
        ),
        argument="[CHECK]...",
        argument_field="checks",
        argument_help="With --fix: only what these checks found, warnings too.",
    ),
    CommandRow(
        "verify",
        "Environment",
        "is it healthy now? does torch compute, is CUDA available?",
        "Is this environment healthy now? For HEALTHCHECK, entry points, the first start of a "
        "container.",
        _options("--python --require-cuda --check-timeout --json"),
    ),
    CommandRow(
        "diff",
        "Record",
        "what differs between two environments, files or points in time",
        "What differs between two environments, and what matters first. A and B are a file (pylock.toml, "
        "requirements, environment.yml), a bundle, an environment (its folder or its Python), or the ID "
        "of a change, as `history` shows it: what it left. Without B: the environment as it is now. "
        "Exit status 0: the same, 1: they differ, 2: trouble.",
        _options("--python --user --json"),
        argument="A [B]...",
        argument_field="sides",
        argument_required=True,
    ),
    CommandRow(
        "export",
        "Record",
        "the environment written down, to be made again elsewhere",
        "The whole environment with the exact source of everything in it: a lock file, requirements, "
        "a Dockerfile ...",
        _options("--format --output --wheels --at --python --offline --json"),
    ),
    CommandRow(
        "history",
        "Environment",
        "past changes, and the space that their undo takes",
        "Past changes of this environment, and the space that their undo takes.",
        _options("--python --prune --keep --user --json"),
    ),
    CommandRow(
        "fleet",
        "Many machines",
        "the same verified change on many machines, or on none",
        """The same verified change on many machines, or on none: install REQ..., uninstall NAME..., verify,
undo [RUN], status [RUN], diff.

The nodes are those of an Ansible inventory, a Dask cluster or a Ray cluster. Wheels are chosen here, once
for each kind of node, and brought to all; commits begin when every node has staged.""",
        _options(
            "--inventory --limit --dask --ray --python --canary --max-failures --allow-partial "
            "--node-timeout --html --dry-run --json --require-cuda --allow-torch-change "
            "--check-timeout --no-build --offline --strict-records --accelerator --third-party"
        ),
        argument="VERB [ARGUMENTS]...",
        argument_field="words",
        takes_pip_options=True,
    ),
    CommandRow(
        "stage",
        "Many machines",
        "all of an install but the change itself; prints its ID",
        "All of an install but the change itself: fetched or built, unpacked, checked, and kept "
        "beside the environment.\n\nTakes every argument of install.",
        _options(f"{OF_INSTALL} --bundle --remove --ttl --run"),
        argument="[PIP ARGUMENTS]...",
        argument_field="requirements",
        takes_pip_options=True,
    ),
    CommandRow(
        "commit",
        "Many machines",
        "put what is staged in place, verified as an install is",
        "Put what is staged in place: verified, and rolled back where it broke something.",
        _options("--python --check-timeout --user --json"),
        argument="ID",
        argument_field="identifier",
        argument_help="As `stage` said it.",
        argument_required=True,
    ),
    CommandRow(
        "abandon",
        "Many machines",
        "drop what is staged",
        "Drop what is staged; nothing was changed.",
        _options("--python --user --json"),
        argument="ID",
        argument_field="identifier",
        argument_help="As `stage` said it.",
        argument_required=True,
    ),
    CommandRow(
        "status",
        "Many machines",
        "what is staged, and what became of each change",
        "What is staged, and what became of each change. Changes nothing.",
        _options("--python --user --json"),
        argument="[ID]",
        argument_field="identifier",
        argument_help="As `stage` said it, or `history`.",
    ),
    CommandRow(
        "inventory",
        "Many machines",
        "what this machine and this environment are, for comparison",
        "What this machine and this environment are, to be compared with others. Changes nothing.",
        _options("--python --json"),
    ),
)
BY_COMMAND: Mapping[str, CommandRow] = {command.name: command for command in COMMANDS}
