"""A command line -> its command, and its words: options with their values, arguments, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, List, Mapping, Optional, Sequence, Tuple

from safe_install.errors import UsageError
from safe_install.resolve.pip_options import BY_NAME, COMMANDS, Option, find_option
from safe_install.resolve.requirements_file import parse_requirement
from safe_install.resolve.spelling import RESERVED, nearest_command, nearest_option

OUR_COMMANDS = (
    "install",
    "uninstall",
    "verify",
    "explain",
    "check-wheel",
    "history",
    "undo",
    "recover",
    "wheels",
)
TAKING_PIP_OPTIONS = ("install", "uninstall", "explain")  # the others heed -q, -v, --no-color and the network's alone
ALL_COMMANDS = frozenset({*COMMANDS, *OUR_COMMANDS})

# Ours, long only, so that no cluster of pip's short options can hold one. True: takes a value.
OWN_OPTIONS: Mapping[str, bool] = {
    "--python": True,
    "--dry-run": False,
    "--json": False,
    "--allow-torch-change": False,
    "--require-cuda": False,
    "--no-rollback": False,
    "--no-build": False,
    "--offline": False,
    "--target-gpu": True,
    "--target-driver": True,
    "--third-party": True,
    "--no-toolkit": False,
    "--strict-records": False,
    "--build-timeout": True,
    "--check-timeout": True,
}
EXPLAIN_OPTIONS: Mapping[str, bool] = {
    "--torch": True,
    "--python-version": True,
    "--platform": True,
    "--cxx11-abi": True,
}


@dataclass(frozen=True)
class Route:
    """Where a command line goes: to one of our commands, or to pip untouched."""

    command: str  # one of OUR_COMMANDS, "pip", "help", "version", "unknown"
    arguments: Tuple[str, ...]
    general: Tuple[str, ...] = ()  # pip's options before one of our commands that every command of pip takes


# --- which command ---------------------------------------------------------------------------------


def route(argv: Sequence[str]) -> Route:
    """The command of a command line. Options may stand before it, as with pip; no command at all means install.

    "unknown": the first word is nearly a command, or reserved for one; it is never a requirement.
    """
    if not argv:
        return Route("help", ())
    words = list(argv)
    options: List[Tuple[str, ...]] = []  # each with its value
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word in ("-h", "--help"):
            return Route("help", ())
        if word in ("-V", "--version"):
            return Route("version", ())
        has_value = _needs_value(word) and bool(words)
        options.append((word, words.pop(0)) if has_value else (word,))
    before = _flatten(options)
    if words and words[0] in OUR_COMMANDS:
        general = _flatten(option for option in options if _is_general(option[0]))
        others = _flatten(option for option in options if not _is_general(option[0]))
        heard = before if words[0] in TAKING_PIP_OPTIONS else others
        return Route(words[0], (*heard, *words[1:]), general)
    if words and words[0] in COMMANDS:
        return Route("pip", (*before, *words))
    if words and (words[0].lower() in RESERVED or nearest_command(words[0].lower(), ALL_COMMANDS)):
        return Route("unknown", tuple(words))
    if before or _looks_like_requirement(words[0]):
        return Route("install", tuple(argv))
    return Route("pip", tuple(argv))


def unknown_command(words: Sequence[str]) -> UsageError:
    """The error for a line whose first word is reserved or nearly a command."""
    word = words[0].lower()
    project = "A project of that name: " + " ".join(["safe-install install", *words]) + "."
    if word in RESERVED:
        instead = RESERVED[word]
        meant = f"Did you mean: {instead}? " if instead else ""
        return UsageError(f"{word} is no command of this version", hint=meant + project)
    command = nearest_command(word, ALL_COMMANDS)
    return UsageError(f"unknown command: {word}", hint=f"Did you mean: safe-install {command}? {project}")


def _flatten(options: Iterable[Tuple[str, ...]]) -> Tuple[str, ...]:
    return tuple(word for option in options for word in option)


def _is_general(word: str) -> bool:
    """Is it an option that every command of pip takes?"""
    name = word.partition("=")[0]
    option = None if name in OWN_OPTIONS else find_option(name if name.startswith("--") else name[:2])
    return option is not None and option.group == "general"


def _needs_value(word: str) -> bool:
    name, equals, _ = word.partition("=")
    if equals:
        return False
    if name in OWN_OPTIONS:
        return OWN_OPTIONS[name]
    option = find_option(name if name.startswith("--") else name[:2])
    return option is not None and option.takes_value and (name.startswith("--") or len(name) == 2)


def _looks_like_requirement(word: str) -> bool:
    if "://" in word or "/" in word or word.startswith(".") or word.endswith((".whl", ".tar.gz", ".zip")):
        return True
    return parse_requirement(word) is not None


# --- words -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """One option with its value, or one argument."""

    option: Optional[Option]
    name: str  # the own option's name, or ""
    value: Optional[str]
    text: Tuple[str, ...]  # as written
    argument: bool = False  # no option: what pip calls a positional argument

    @property
    def key(self) -> str:
        """pip's name for the option (`no-deps`); "" where it is ours, or an argument."""
        return self.option.key if self.option else ""


def split_words(argv: Sequence[str], own: Mapping[str, bool]) -> List[Word]:
    """Options with their values and arguments, in order. Errors: UsageError for a value that is missing."""
    words: List[Word] = []
    rest = list(argv)
    while rest:
        text = rest.pop(0)
        if text == "--":
            words.append(Word(None, "", None, (text,)))  # stays: what follows may begin with a hyphen
            words += [Word(None, "", argument, (argument,), argument=True) for argument in rest]
            break
        if not text.startswith("-") or text == "-":
            words.append(Word(None, "", text, (text,), argument=True))
        elif text.startswith("--"):
            words.append(_long_word(text, rest, own))
        else:
            words += _short_words(text, rest)
    return words


def _long_word(text: str, rest: List[str], own: Mapping[str, bool]) -> Word:
    name, equals, value = text.partition("=")
    option = None if name in own else find_option(name)
    if option is None and name not in own:
        _refuse_misspelled_option(name, own)
    takes_value = own.get(name, option is not None and option.takes_value)
    kept_name = name if name in own else ""
    if not takes_value:
        if equals and name in own:
            raise UsageError(f"{name} takes no value", hint=f"Write {name} alone.")
        return Word(option, kept_name, None, (text,))
    if equals:
        return Word(option, kept_name, value, (text,))
    if not rest:
        raise UsageError(f"{name} needs a value", hint=f"Write {name} VALUE.")
    value = rest.pop(0)
    return Word(option, kept_name, value, (text, value))


def _refuse_misspelled_option(name: str, own: Mapping[str, bool]) -> None:
    """An option that nobody has, one letter from one that somebody has. Any other is pip's to judge: it may be new."""
    meant = nearest_option(name, [*own, *BY_NAME])
    if meant is not None:
        raise UsageError(f"no such option: {name}", hint=f"Did you mean: {meant}?")


def _short_words(text: str, rest: List[str]) -> List[Word]:
    """A cluster such as -qU, or -rfile."""
    words: List[Word] = []
    letters = text[1:]
    while letters:
        name, letters = f"-{letters[0]}", letters[1:]
        option = find_option(name)
        if option is None or not option.takes_value:
            words.append(Word(option, "", None, (name,)))
            continue
        if letters:
            words.append(Word(option, "", letters, (name + letters,)))
        elif rest:
            value = rest.pop(0)
            words.append(Word(option, "", value, (name, value)))
        else:
            raise UsageError(f"{name} needs a value", hint=f"Write {name} VALUE.")
        letters = ""
    return words
