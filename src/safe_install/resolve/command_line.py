"""Splits a command line into its command and its words: options with their values, and arguments,
in order.

It is split once; the parsers of pip's options, of our options and of the command use the result.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Collection, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from safe_install.errors import UsageError
from safe_install.requirements import parse_requirement
from safe_install.resolve import options_table
from safe_install.resolve.option_rows import FLEET_VERBS, OptionRow
from safe_install.resolve.options_table import BY_COMMAND
from safe_install.resolve.pip_options import BY_NAME, COMMANDS, OPTIONS, Option, find_option
from safe_install.resolve.spelling import RESERVED, nearest_command, nearest_option

OUR_COMMANDS = tuple(BY_COMMAND)
ALL_COMMANDS = frozenset({*COMMANDS, *OUR_COMMANDS})


def _by_name(options: Iterable[OptionRow]) -> Mapping[str, OptionRow]:
    return {option.name: option for option in options}


# Those of `install` are read with every command, so that one that it does not have takes its value.
OWN_OPTIONS = _by_name(BY_COMMAND["install"].options)
STAGE_OPTIONS = _by_name(BY_COMMAND["stage"].options)
EXPLAIN_OPTIONS = {**OWN_OPTIONS, **_by_name(BY_COMMAND["explain"].options)}
SYNC_OPTIONS = {**OWN_OPTIONS, **_by_name(BY_COMMAND["sync"].options)}
FLEET_OPTIONS = {**OWN_OPTIONS, **_by_name(BY_COMMAND["fleet"].options)}
BUNDLE_OPTIONS = {**OWN_OPTIONS, **_by_name(BY_COMMAND["bundle"].options)}
# What is understood of a line that is pip's: the options that every command of pip has. `-f` has a
# value in some alone.
PASSED_OPTIONS = {"--python": options_table.BY_NAME["--python"]}
GENERAL_NAMES = frozenset(
    name for option in OPTIONS if option.group in ("general", "help") for name in option.names
)


OUTPUT_OPTION = re.compile(r"-q+|-v+|--quiet|--verbose|--no-color")
_WITH_ONE_EQUALS = re.compile(r"[A-Za-z0-9][\w.-]*(\[[^]]*\])?=[^=]+")
HELP_WORDS = ("-h", "--help")
VERSION_WORDS = ("-V", "--version")


class Route(NamedTuple):
    """Where a command line goes: to one of our commands, or to pip untouched."""

    command: str  # one of OUR_COMMANDS, "pip", "help", "version", "unknown"
    arguments: Tuple[str, ...]
    # options before the command that every command of pip takes
    general: Tuple[str, ...] = ()


# --- which command --------------------------------------------------------------------------------


def route(argv: Sequence[str]) -> Route:
    """The command of a command line. Options may stand before it, as with pip; no command means
    install.

    "unknown": the first word is nearly a command, or reserved for one. It is never taken as a
    requirement.
    """
    if not argv:
        return Route("help", ())
    options, words = _take_options(argv)
    last = options[-1][0] if options else ""
    if last in HELP_WORDS:
        return Route("help", ())
    if last in VERSION_WORDS:
        return Route("version", ())
    if words and words[0] in OUR_COMMANDS:
        return _route_to_ours(words[0], options, words[1:])
    before = _flatten(options)
    if words and words[0] in COMMANDS:
        return Route("pip", (*before, *words))
    if words and _is_nearly_a_command(*words[:2]):
        return Route("unknown", tuple(words))
    if before or _looks_like_requirement(words[0]):
        return Route("install", tuple(argv))
    return Route("pip", tuple(argv))


def _route_to_ours(command: str, options: Sequence[Tuple[str, ...]], words: Sequence[str]) -> Route:
    """To one of our commands. `options`: what stands before it; `words`: what stands behind it."""
    general = _flatten(option for option in options if _is_general(option[0]))
    if BY_COMMAND[command].takes_pip_options:
        return Route(command, (*_flatten(options), *words), general)
    others = _flatten(option for option in options if not _is_general(option[0]))
    said, rest = _take_output_options(words)
    return Route(command, (*others, *rest), (*general, *said))


def _take_output_options(words: Sequence[str]) -> Tuple[List[str], List[str]]:
    """-q, -vv and --no-color, which every command of pip has in any place; the other words."""
    end = words.index("--") if "--" in words else len(words)
    said = [word for word in words[:end] if OUTPUT_OPTION.fullmatch(word)]
    rest = [word for word in words[:end] if not OUTPUT_OPTION.fullmatch(word)]
    return said, [*rest, *words[end:]]


def _is_nearly_a_command(written: str, following: str = "") -> bool:
    """Is the word reserved, a command in another case, or one edit from a command? `flet` is a
    popular project, but in `flet install` it is a typo."""
    word = written.lower()
    if word in RESERVED or word in OUR_COMMANDS:
        return True
    takes_any = following in FLEET_VERBS
    return nearest_command(word, ALL_COMMANDS, takes_any=takes_any) is not None


def _take_options(argv: Sequence[str]) -> Tuple[List[Tuple[str, ...]], List[str]]:
    """The options before the first argument, each with its value, up to --help or --version; and
    the rest."""
    words = list(argv)
    options: List[Tuple[str, ...]] = []
    while words and words[0].startswith("-"):
        word = words.pop(0)
        has_value = _needs_value(word) and bool(words)
        options.append((word, words.pop(0)) if has_value else (word,))
        if word in (*HELP_WORDS, *VERSION_WORDS):
            break
    return options, words


def unknown_command(words: Sequence[str]) -> UsageError:
    """The error for a line whose first word is reserved or nearly a command."""
    word = words[0].lower()
    named = [other for other in words if other not in HELP_WORDS]
    project = "A project of that name: " + " ".join(["safe-install install", *named]) + "."
    if word in RESERVED:
        message = f"{word} is no command of this version"
        instead = RESERVED[word]
    else:
        message = f"unknown command: {word}"
        near = nearest_command(word, ALL_COMMANDS, takes_any=True)
        command = word if word in OUR_COMMANDS else near or ""
        asks_for_help = len(named) < len(words)
        meant_line = (
            f"safe-install {command} --help" if asks_for_help else f"safe-install {command}"
        )
        instead = RESERVED.get(command, meant_line)
    meant = f"Did you mean: {instead}? " if instead else ""
    return UsageError(message, hint=meant + project)


def _flatten(options: Iterable[Tuple[str, ...]]) -> Tuple[str, ...]:
    return tuple(word for option in options for word in option)


def _is_general(word: str) -> bool:
    """Is it an option that every command of pip takes?"""
    name = word.partition("=")[0]
    option = (
        None if name in OWN_OPTIONS else find_option(name if name.startswith("--") else name[:2])
    )
    return option is not None and option.group == "general"


def _needs_value(word: str) -> bool:
    name, equals, _ = word.partition("=")
    if equals:
        return False
    if name in OWN_OPTIONS:
        return OWN_OPTIONS[name].takes_value
    option = find_option(name if name.startswith("--") else name[:2])
    return option is not None and option.takes_value and (name.startswith("--") or len(name) == 2)


def _looks_like_requirement(word: str) -> bool:
    if (
        "://" in word
        or "/" in word
        or word.startswith(".")
        or word.endswith((".whl", ".tar.gz", ".zip"))
    ):
        return True
    # conda's torch=2.13 is for pip install, whose error names the operator that is missing
    return parse_requirement(word) is not None or _WITH_ONE_EQUALS.fullmatch(word) is not None


# --- words ----------------------------------------------------------------------------------------


class Word(NamedTuple):
    """One option with its value, or one argument."""

    option: Optional[Option]
    name: str  # the own option's name, or ""
    value: Optional[str]
    text: Tuple[str, ...]  # as written
    argument: bool = False  # no option: what pip calls a positional argument

    @property
    def key(self) -> str:
        """pip's name for the option (`no-deps`); "" for our options and for arguments."""
        return self.option.key if self.option else ""


@dataclass(frozen=True)
class Words:
    """The words of a command line. A mistake in them is raised only by `checked`, because some
    commands need only a few of the words."""

    all: Tuple[Word, ...]
    problem: Optional[UsageError] = None  # the first mistake in the words

    def checked(self) -> Tuple[Word, ...]:
        """All words. Errors: UsageError for the first mistake."""
        if self.problem is not None:
            raise self.problem
        return self.all

    def has(self, name: str) -> bool:
        """Was this option of ours given?"""
        return any(word.name == name for word in self.all)

    def value(self, name: str) -> Optional[str]:
        """The value of an option; of several the last one counts."""
        written = [word.value for word in self.all if word.name == name and word.value is not None]
        return written[-1] if written else None

    def count(self, key: str) -> int:
        """How often an option of pip was given: -q, -qq."""
        return sum(1 for word in self.all if word.key == key)


@dataclass(frozen=True)
class CommandLine:
    """A command line: its command and its words."""

    argv: Tuple[str, ...]
    route: Route
    words: Words


def parse_command_line(argv: Sequence[str]) -> CommandLine:
    """Route a command line, and split what does not name the command into words."""
    chosen = route(argv)
    return CommandLine(tuple(argv), chosen, _words_of(chosen, argv))


def within(line: CommandLine, words: Sequence[str]) -> CommandLine:
    """The words of another command on the same environment, which runs as a part of `line`; the
    history records `line`."""
    python = line.words.value("--python")
    named = [] if python is None else ["--python", python]
    inner = parse_command_line([words[0], *named, *words[1:]])
    return dataclasses.replace(inner, argv=line.argv)


def _words_of(chosen: Route, argv: Sequence[str]) -> Words:
    if chosen.command == "pip":
        return split_words(chosen.arguments, PASSED_OPTIONS, pips=GENERAL_NAMES)
    command = BY_COMMAND.get(chosen.command)
    if command is None:
        return split_words(argv)
    if command.name == "explain":
        return split_words(chosen.arguments, EXPLAIN_OPTIONS)
    if command.name == "stage":
        return split_words(chosen.arguments, STAGE_OPTIONS)
    if command.name == "sync":
        return split_words(chosen.arguments, SYNC_OPTIONS)
    if command.name == "fleet":
        return split_words(chosen.arguments, FLEET_OPTIONS)
    if command.name == "bundle":
        return split_words(chosen.arguments, BUNDLE_OPTIONS)
    if command.takes_pip_options:
        return split_words(chosen.arguments)
    return split_words((*chosen.general, *chosen.arguments), options_table.BY_NAME)


def split_words(
    argv: Sequence[str],
    own: Mapping[str, OptionRow] = OWN_OPTIONS,
    *,
    pips: Optional[Collection[str]] = None,
) -> Words:
    """Options with their values and arguments, in order.

    `own`: our options that are known here. `pips`: the names of pip's; None: all.
    """
    return _Splitter(argv, own, pips).split()


class _Splitter:
    """Splits one command line."""

    def __init__(
        self, argv: Sequence[str], own: Mapping[str, OptionRow], pips: Optional[Collection[str]]
    ) -> None:
        self._rest = list(argv)
        self._own = own
        self._pips = pips
        self._problem: Optional[UsageError] = None

    def split(self) -> Words:
        words: List[Word] = []
        while self._rest:
            text = self._rest.pop(0)
            if text == "--":
                # stays: what follows may begin with a hyphen
                words.append(Word(None, "", None, (text,)))
                words += [
                    Word(None, "", argument, (argument,), argument=True) for argument in self._rest
                ]
                break
            if not text.startswith("-") or text == "-":
                words.append(Word(None, "", text, (text,), argument=True))
            elif text.startswith("--"):
                words.append(self._long_word(text))
            else:
                words += self._short_words(text)
        return Words(tuple(words), self._problem)

    def _long_word(self, text: str) -> Word:
        name, equals, value = text.partition("=")
        own = self._own.get(name)
        option = self._find(name) if own is None else None
        if own is None and option is None:
            self._note_misspelled(name)
        kept_name = name if own is not None else ""
        if not (own.takes_value if own is not None else option is not None and option.takes_value):
            if equals and own is not None:
                self._note(f"{name} takes no value", f"Write {name} alone.")
                kept_name = ""
            return Word(option, kept_name, None, (text,))
        if equals:
            return Word(option, kept_name, value, (text,))
        return self._with_next(option, kept_name, name)

    def _with_next(self, option: Optional[Option], kept_name: str, written: str) -> Word:
        """An option whose value is the next word."""
        if not self._rest:
            self._note(f"{written} needs a value", f"Write {written} VALUE.")
            return Word(option, kept_name, None, (written,))
        value = self._rest.pop(0)
        return Word(option, kept_name, value, (written, value))

    def _short_words(self, text: str) -> List[Word]:
        """A cluster such as -qU, or -rfile."""
        for own in self._own.values():
            if own.takes_value and own.short == text[:2]:
                return [self._short_own_word(own, text)]
        if self._pips is not None:  # which of the letters has a value, only pip knows
            return [Word(self._find(text[:2]), "", None, (text,))]
        words: List[Word] = []
        letters = text[1:]
        while letters:
            name, letters = f"-{letters[0]}", letters[1:]
            option = self._find(name)
            if option is None or not option.takes_value:
                words.append(Word(option, "", None, (name,)))
                continue
            if letters:
                words.append(Word(option, "", letters, (name + letters,)))
            else:
                words.append(self._with_next(option, "", name))
            letters = ""
        return words

    def _short_own_word(self, own: OptionRow, text: str) -> Word:
        """`-oFILE`, or `-o FILE`."""
        if len(text) > len(own.short):
            return Word(None, own.name, text[len(own.short) :], (text,))
        return self._with_next(None, own.name, own.short)

    def _find(self, name: str) -> Optional[Option]:
        """The option of pip with this name."""
        if self._pips is not None and name not in self._pips:
            return None
        return find_option(name)

    def _note_misspelled(self, name: str) -> None:
        """Note an option that does not exist and is one letter from one that does. Other unknown
        options are left to pip: they may be new."""
        meant = nearest_option(name, [*self._own, *BY_NAME])
        if meant is not None:
            self._note(f"no such option: {name}", f"Did you mean: {meant}?")

    def _note(self, message: str, hint: str) -> None:
        if self._problem is None:
            self._problem = UsageError(message, hint=hint)
