"""Which words may come next in a command line."""

from __future__ import annotations

from typing import Dict, FrozenSet, List, Mapping, Optional, Protocol, Sequence, Tuple

from safe_install.resolve.option_rows import FLEET_VERBS
from safe_install.resolve.options_table import BY_COMMAND
from safe_install.resolve.options_table import OPTIONS as OUR_OPTIONS
from safe_install.resolve.pip_options import COMMAND_OPTIONS, COMMANDS, OPTIONS, find_option

OWN_VALUE_OPTIONS = frozenset(option.name for option in OUR_OPTIONS if option.takes_value)
FIRST_OPTIONS = ("--help", "--version", "--install-completion", "--show-completion")
# pip has them; nobody looks for them here
HIDDEN_COMMANDS = frozenset(["completion", "debug", "help", "search"])
SUBCOMMANDS: Mapping[str, Tuple[str, ...]] = {
    "cache": ("dir", "info", "list", "purge", "remove"),
    "config": ("debug", "edit", "get", "list", "set", "unset"),
    "index": ("versions",),
}
VALUES: Mapping[str, Tuple[str, ...]] = {
    **{option.name: option.choices for option in OUR_OPTIONS if option.choices},
    "--exists-action": ("a", "b", "i", "s", "w"),
    "--install-completion": ("bash", "fish", "zsh"),
    "--keyring-provider": ("auto", "disabled", "import", "subprocess"),
    "--progress-bar": ("auto", "off", "on", "raw"),
    "--root-user-action": ("ignore", "warn"),
    "--show-completion": ("bash", "fish", "zsh"),
    "--upgrade-strategy": ("eager", "only-if-needed"),
}
TAKES_PROJECTS = frozenset(
    ["install", "stage", "explain", "bundle", "wheels", "download", "wheel", "lock"]
)
TAKES_STAGED = frozenset(["commit", "abandon", "status"])
TAKES_PIP_OPTIONS = frozenset(["install", "stage", "uninstall", "fleet"])
TAKES_DISTRIBUTIONS = frozenset(["uninstall", "show"])
# diff takes files, too: a shell offers these where no ID begins as the word does
TAKES_TRANSACTIONS = frozenset(["undo", "diff"])
OF_A_TRANSACTION = "--at"  # the option whose value is one


class Names(Protocol):
    """The names on this machine."""

    def projects(self) -> Sequence[str]:
        """The projects of the wheel index."""

    def distributions(self, python: Optional[str]) -> Sequence[str]:
        """The distributions in the environment of `--python`, or in the active one."""

    def transactions(self, python: Optional[str]) -> Sequence[str]:
        """The IDs of past changes, newest first."""

    def staged(self, python: Optional[str]) -> Sequence[str]:
        """The IDs of staged changes, newest first."""


def complete(words: Sequence[str], current: str, names: Names) -> List[str]:
    """The words that are possible where `current` is being written, after `words` (without the
    program's name).

    Empty where the shell should offer files, or where nothing is known.
    """
    words, current = _join_equals(words, current)
    option, equals, value = current.partition("=")
    if equals and option.startswith("--"):
        return [f"{option}={found}" for found in _matching(_values_of(option, words, names), value)]
    if words and _awaits_value(words[-1]):
        return _matching(_values_of(words[-1], words, names), current)
    command = find_command(words)
    if current.startswith("-"):
        return _matching(options_of(command), current)
    return _matching(_arguments_of(command, words, names), current)


def find_command(words: Sequence[str]) -> Optional[str]:
    """The command of a line; "install" where it begins with a requirement; None before the
    command."""
    is_value = False
    for word in words:
        if is_value:
            is_value = False
        elif word.startswith("-"):
            is_value = _awaits_value(word)
        elif word in BY_COMMAND or word in COMMANDS:
            return word
        else:
            return "install"
    return None


def options_of(command: Optional[str]) -> List[str]:
    """The options of a command; before a command those of install, and the program's own."""
    if command is None:
        return [*FIRST_OPTIONS, *options_of("install")]
    ours = BY_COMMAND.get(command)
    own = [option.name for option in ours.options] if ours is not None else []
    if ours is not None and command not in TAKES_PIP_OPTIONS:
        return [*own, "--help"]
    general = [f"--{option.key}" for option in OPTIONS if option.group == "general"]
    if command in ("install", "stage", "fleet"):
        pips = [f"--{option.key}" for option in OPTIONS if option.group != "help"]
    else:
        pips = COMMAND_OPTIONS.get(command, "").split() + general
    return list(dict.fromkeys([*own, *pips, "--help"]))


def all_commands() -> List[str]:
    """Our commands and pip's."""
    found: FrozenSet[str] = frozenset({*BY_COMMAND, *COMMANDS})
    return [*sorted(found - HIDDEN_COMMANDS), "help"]


def _arguments_of(command: Optional[str], words: Sequence[str], names: Names) -> Sequence[str]:
    if command is None:
        return [*all_commands(), *names.projects()]
    if command == "help":
        return all_commands()
    if command == "fleet":
        return _arguments_of_fleet(words, names)
    if command in TAKES_PROJECTS:
        return names.projects()
    if command in TAKES_DISTRIBUTIONS:
        return names.distributions(_python_of(words))
    if command in TAKES_TRANSACTIONS:
        return names.transactions(_python_of(words))
    if command in TAKES_STAGED:
        return names.staged(_python_of(words))
    if command in SUBCOMMANDS and words[-1] == command:
        return SUBCOMMANDS[command]
    return ()


def _arguments_of_fleet(words: Sequence[str], names: Names) -> Sequence[str]:
    verbs = [word for word in words if word in FLEET_VERBS]
    if not verbs:
        return FLEET_VERBS
    return names.projects() if verbs[0] == "install" else ()


def _values_of(option: str, words: Sequence[str], names: Names) -> Sequence[str]:
    if option == OF_A_TRANSACTION:
        return names.transactions(_python_of(words))
    return VALUES.get(option, ())


def _python_of(words: Sequence[str]) -> Optional[str]:
    for number, word in enumerate(words):
        if word == "--python" and number + 1 < len(words):
            return words[number + 1]
        if word.startswith("--python="):
            return word.partition("=")[2]
    return None


def _awaits_value(word: str) -> bool:
    """Is the next word the value of this one?"""
    if word in VALUES or word in OWN_VALUE_OPTIONS:
        return True
    is_long = word.startswith("--")
    if "=" in word or not word.startswith("-") or (not is_long and len(word) != 2):
        return False
    option = find_option(word)
    return option is not None and option.takes_value


def _join_equals(words: Sequence[str], current: str) -> Tuple[List[str], str]:
    """Bash splits `--option=value` into three words: join them to an option and its value."""
    joined = list(words)
    if current == "=":
        return joined, ""
    if joined and joined[-1] == "=":
        joined.pop()
    return joined, current


def _matching(candidates: Sequence[str], beginning: str) -> List[str]:
    found: Dict[str, None] = {name: None for name in candidates if name.startswith(beginning)}
    return list(found)
