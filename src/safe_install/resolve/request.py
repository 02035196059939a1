"""A pip command line -> what was asked for. Our own options are taken out; pip's stay as they are, in their order."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import InputError, UsageError
from safe_install.models import DEFAULT_NETWORK, NetworkSettings
from safe_install.resolve.command_line import EXPLAIN_OPTIONS, OWN_OPTIONS, Word, split_words
from safe_install.resolve.own_options import OwnOptions, options_of_words
from safe_install.resolve.pip_options import FETCH_GROUPS, INDEX_GROUPS, find_option
from safe_install.resolve.pip_settings import PipSettings
from safe_install.resolve.requirements_file import (
    Entry,
    Parsed,
    Reader,
    as_path,
    is_lock_file,
    parse_file,
    parse_requirement,
)


@dataclass(frozen=True)
class InstallRequest:
    """`install ARGS`."""

    own: OwnOptions
    entries: Tuple[Entry, ...]  # requirements of the command line and of the files, without constraints
    constraints: Tuple[Entry, ...]
    named_on_command_line: FrozenSet[NormalizedName]
    dry_run_arguments: Tuple[str, ...]  # for `pip install --dry-run`: everything but ours, --report and --dry-run
    fetch_options: Tuple[str, ...]  # for `pip wheel`: general, index, selection and build options
    pip_arguments: Tuple[str, ...]  # everything but what only we understand
    upgrade: bool = False
    force_reinstall: bool = False
    ignore_installed: bool = False  # what is installed stays beside what comes
    no_warn_conflicts: bool = False  # requirements of other distributions may be broken, and nothing is said
    pre: bool = False
    no_deps: bool = False
    require_hashes: bool = False
    compile_bytecode: bool = True
    break_system_packages: bool = False
    quiet: int = 0
    index_url: Optional[str] = None
    index_urls: Tuple[str, ...] = ()  # every address of an index or a page of links that the person gave
    named_places: Tuple[str, ...] = ()  # indexes, and pages and folders of links, that stand on the command line
    no_input: bool = False
    keyring_provider: str = "auto"
    find_links: Tuple[str, ...] = ()
    no_index: bool = False
    place: Optional[str] = None  # the option that sends the files elsewhere: "target", "user", "platform" ...
    target: Optional[str] = None
    root: Optional[str] = None
    prefix: Optional[str] = None
    refuses_user: bool = False  # --no-user, or `user = no`: the user site is not meant, whatever can be written
    report_file: Optional[str] = None
    src: Optional[str] = None  # where the person wants clones
    settings_free_options: Tuple[str, ...] = ()  # fetch_options without --config-settings
    index_options: Tuple[str, ...] = ()  # of fetch_options: how pip reaches which index
    verbose: int = 0
    log_file: Optional[Path] = None  # --log: pip's own record of what it says
    shows_progress: bool = True
    warns_of_path: bool = True  # of scripts in a folder that is not on PATH
    has_pip_inputs: bool = False  # --group, --requirements-from-script, a lock file: only pip reads what they name
    has_lock: bool = False
    network: NetworkSettings = DEFAULT_NETWORK

    def config_settings_of(self, name: NormalizedName, *, is_requested: bool) -> Tuple[str, ...]:
        """What the build backend of a project is told: by its own line, or by the command line that names it.

        As with pip, dependencies are told nothing. A folder or an archive on the command line has no name yet.
        """
        unnamed: Tuple[str, ...] = ()
        for entry in self.entries:
            entry_name = named(entry.text)
            if entry_name == name:
                return entry.config_settings
            if entry_name is None and not entry.editable:
                unnamed = unnamed or entry.config_settings
        return unnamed if is_requested else ()

    @property
    def editables(self) -> Tuple[Entry, ...]:
        """The editable ones among the entries."""
        return tuple(entry for entry in self.entries if entry.editable)


@dataclass(frozen=True)
class UninstallRequest:
    """`uninstall ARGS`."""

    own: OwnOptions
    names: Tuple[NormalizedName, ...]
    ignored: Tuple[str, ...] = ()  # arguments that name no distribution
    yes: bool = False
    break_system_packages: bool = False
    quiet: int = 0
    log_file: Optional[Path] = None


@dataclass(frozen=True)
class ExplainRequest:
    """`explain REQ...`, perhaps for a machine that is not here."""

    own: OwnOptions
    requirements: Tuple[Requirement, ...]
    torch: Optional[str] = None
    python_version: Optional[str] = None
    platform: Optional[str] = None
    cxx11_abi: Optional[bool] = None
    pre: bool = False


# --- install ---------------------------------------------------------------------------------------


def parse_install(
    argv: Sequence[str],
    *,
    environ: Mapping[str, str],
    configuration: Mapping[str, str],
    read: Reader,
) -> InstallRequest:
    """`install ARGS`. `configuration`: pip's, by option key (`no-deps`), as its files and PIP_* variables give it;
    `read` brings the text of a requirements file. Errors: UsageError."""
    words = split_words(argv, OWN_OPTIONS)
    settings = PipSettings(words, configuration)
    config_settings = settings.all("config-settings")
    arguments = tuple(Entry(word.value or "", config_settings=config_settings) for word in words if word.argument)
    editables = tuple(Entry(as_path(text), editable=True) for text in settings.all("editable"))
    locks = [location for location in settings.all("requirement") if is_lock_file(location)]
    files = [
        parse_file(location, read=read, environ=environ, constraint=key == "constraint")
        for key in ("requirement", "constraint")
        for location in settings.all(key)
        if key == "constraint" or location not in locks
    ]
    entries, constraints = _sorted_entries((*arguments, *editables), files)
    in_files = {key: value for parsed in files for key, value in parsed.options}
    has_pip_inputs = bool(locks) or any(settings.all(key) for key in ("group", "requirements-from-script"))
    place = settings.place()
    if not entries and not has_pip_inputs and place in (None, "user"):  # elsewhere, pip does it all
        _require_input(settings)
    written = [*arguments, *(Entry(as_path(word.value or "")) for word in words if word.key == "editable")]
    own = options_of_words(words, environ)
    return InstallRequest(
        own=replace(own, dry_run=own.dry_run or settings.flag("dry-run")),
        entries=entries,
        constraints=constraints,
        named_on_command_line=frozenset(name for name in (named(entry.text) for entry in written) if name is not None),
        dry_run_arguments=_texts(words, without=("report",), without_keys=("user", "yes")),
        fetch_options=(
            *_texts(words, only=FETCH_GROUPS),
            *_options_of_files(files, FETCH_GROUPS),
        ),
        settings_free_options=(
            *_texts(words, only=FETCH_GROUPS, without_keys=("config-settings",)),
            *_options_of_files(files, FETCH_GROUPS),
        ),
        pip_arguments=_pip_texts(words),
        upgrade=settings.flag("upgrade"),
        force_reinstall=settings.flag("force-reinstall") or settings.flag("ignore-installed"),
        ignore_installed=settings.flag("ignore-installed"),
        no_warn_conflicts=settings.flag("no-warn-conflicts"),
        pre=settings.flag("pre") or "pre" in in_files,
        no_deps=settings.flag("no-deps"),
        require_hashes=settings.flag("require-hashes")
        or "require-hashes" in in_files
        or any(entry.hashes for entry in entries),
        compile_bytecode=settings.compiles(),
        break_system_packages=settings.flag("break-system-packages"),
        quiet=settings.count("quiet"),
        index_url=in_files.get("index-url") or settings.one("index-url"),  # pip's order: a file's wins
        find_links=(
            *settings.all("find-links"),
            *(value for parsed in files for key, value in parsed.options if key == "find-links" and value),
        ),
        index_urls=_addresses(settings, files),
        named_places=tuple(word.value for word in words if word.key in PLACE_KEYS and word.value),
        no_input=settings.flag("no-input"),
        keyring_provider=settings.one("keyring-provider") or "auto",
        no_index=settings.flag("no-index") or "no-index" in in_files,
        place=place,
        refuses_user=settings.refuses_user(),
        target=settings.one("target"),
        root=settings.one("root"),
        prefix=settings.one("prefix"),
        report_file=settings.one("report"),
        src=settings.one("src"),
        index_options=(*_texts(words, only=INDEX_GROUPS), *_options_of_files(files, INDEX_GROUPS)),
        has_pip_inputs=has_pip_inputs,
        has_lock=bool(locks),
        verbose=settings.count("verbose"),
        log_file=settings.path("log"),
        shows_progress=settings.one("progress-bar") != "off",
        warns_of_path=not settings.flag("no-warn-script-location"),
        network=_network_settings(settings, files),
    )


def parse_network(argv: Sequence[str], configuration: Mapping[str, str]) -> NetworkSettings:
    """How hosts are reached, before any file of requirements was read. Errors: UsageError."""
    return _network_settings(PipSettings(split_words(argv, OWN_OPTIONS), configuration), ())


def _network_settings(settings: PipSettings, files: Sequence[Parsed]) -> NetworkSettings:
    trusted_in_files = (value for parsed in files for key, value in parsed.options if key == "trusted-host" and value)
    return NetworkSettings(
        proxy=settings.one("proxy"),
        ca_bundle=settings.path_text("cert"),
        client_certificate=settings.path_text("client-cert"),
        trusted_hosts=(*settings.all("trusted-host"), *trusted_in_files),
    )


def _require_input(settings: PipSettings) -> None:
    if settings.all("requirement"):
        return  # an empty file: pip warns and is content
    raise InputError(
        'You must give at least one requirement to install (see "safe-install install --help")',
        hint="Name a project: safe-install torch-scatter.",
    )


PLACE_KEYS = ("index-url", "extra-index-url", "find-links")


def _addresses(settings: PipSettings, files: Sequence[Parsed]) -> Tuple[str, ...]:
    written = [value for key in PLACE_KEYS for value in settings.all(key)]
    written += [value for parsed in files for key, value in parsed.options if key in PLACE_KEYS and value]
    return tuple(value for value in written if value.startswith(("http://", "https://")))


def _options_of_files(files: Sequence[Parsed], groups: Sequence[str]) -> Tuple[str, ...]:
    """The options of some groups that requirement files hold, as words for a pip run that is not given the files."""
    words: List[str] = []
    for key, value in (option for parsed in files for option in parsed.options):
        option = find_option(f"--{key}")
        if option is not None and option.group in groups:
            words += [f"--{key}"] if value is None else [f"--{key}", value]
    return tuple(words)


def _sorted_entries(arguments: Sequence[Entry], files: Sequence[Parsed]) -> Tuple[Tuple[Entry, ...], Tuple[Entry, ...]]:
    found = [*arguments, *(entry for parsed in files for entry in parsed.entries)]
    return (
        tuple(entry for entry in found if not entry.constraint),
        tuple(entry for entry in found if entry.constraint),
    )


def _texts(
    words: Sequence[Word],
    *,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    without_keys: Sequence[str] = (),
) -> Tuple[str, ...]:
    kept: List[str] = []
    for word in words:
        if word.name:
            continue
        if only and word.key == "use-deprecated" and word.value == "legacy-resolver":
            continue  # all is resolved; with that resolver `pip wheel` of a folder ends in an AssertionError (26.2)
        group = word.option.group if word.option else "argument"
        if only and group not in only:
            continue
        if group in without or word.key in without_keys:
            continue
        kept.extend(word.text)
    return tuple(kept)


def _pip_texts(words: Sequence[Word]) -> Tuple[str, ...]:
    """For a pip that does the whole work: its own options that we have too are its own again."""
    kept: List[str] = []
    for word in words:
        if not word.name or word.name == "--dry-run":
            kept.extend(word.text)
    return tuple(kept)


# --- uninstall and explain -------------------------------------------------------------------------


def parse_uninstall(
    argv: Sequence[str], *, environ: Mapping[str, str], configuration: Mapping[str, str], read: Reader
) -> UninstallRequest:
    """`uninstall ARGS`. Errors: UsageError."""
    words = split_words(argv, OWN_OPTIONS)
    settings = PipSettings(words, configuration)
    names: Dict[NormalizedName, None] = {}
    ignored: List[str] = []
    for word in words:
        if word.argument:
            name = named(word.value or "")
            if name is None:
                ignored.append(word.value or "")
            else:
                names[name] = None
    for location in settings.all("requirement"):
        for entry in parse_file(location, read=read, environ=environ).entries:
            # As pip has it: a line of a file that names nothing (-e ., a bare address) is passed over.
            name = None if entry.constraint else named(entry.text)
            if name is not None:
                names[name] = None
    if not names and ignored:
        raise InputError(
            # pip's words, which scripts look for
            f"Invalid requirement: {ignored[0]!r} ignored - the uninstall command expects named requirements.",
            hint="safe-install list shows the names.",
        )
    if not names:
        raise InputError(
            'You must give at least one requirement to uninstall (see "safe-install uninstall --help")',
            hint="Name a distribution: safe-install uninstall torch-scatter.",
        )
    return UninstallRequest(
        options_of_words(words, environ),
        tuple(names),
        ignored=tuple(ignored),
        yes=settings.flag("yes") or settings.flag("no-input"),
        break_system_packages=settings.flag("break-system-packages"),
        quiet=settings.count("quiet"),
        log_file=settings.path("log"),
    )


def parse_explain(argv: Sequence[str], *, environ: Mapping[str, str]) -> ExplainRequest:
    """`explain REQ... [--torch V --python-version V --platform P --cxx11-abi true/false]`. Errors: UsageError."""
    words = split_words(argv, {**OWN_OPTIONS, **EXPLAIN_OPTIONS})
    written = {word.name: word.value for word in words if word.name}
    requirements = []
    for word in words:
        if word.argument:
            requirement = parse_requirement(word.value or "")
            if requirement is None:
                raise UsageError(
                    f"{word.value}: not a requirement", hint="Write a name: safe-install explain torch-scatter."
                )
            requirements.append(requirement)
        elif not word.name and word.text != ("--",) and word.key not in ("pre", "quiet", "verbose"):
            raise UsageError(f"explain has no option {word.text[0]}", hint="See safe-install explain --help.")
    if not requirements:
        raise UsageError("explain needs a requirement", hint="Write: safe-install explain torch-scatter.")
    abi = written.get("--cxx11-abi")
    if abi is not None and abi.lower() not in ("true", "false"):
        raise UsageError(f"--cxx11-abi {abi}: neither true nor false", hint="Write --cxx11-abi true.")
    return ExplainRequest(
        options_of_words(words, environ),
        tuple(requirements),
        torch=written.get("--torch"),
        python_version=written.get("--python-version"),
        platform=written.get("--platform"),
        cxx11_abi=None if abi is None else abi.lower() == "true",
        pre=any(word.key == "pre" for word in words),
    )


# --- names -----------------------------------------------------------------------------------------


def named(text: str) -> Optional[NormalizedName]:
    """The project that a requirement names; None for a folder or an archive whose name says nothing."""
    requirement = parse_requirement(text)
    if requirement is not None and (requirement.url or not text.endswith((".whl", ".gz", ".zip"))):
        return canonicalize_name(requirement.name)
    fragment = urlsplit(text).fragment if "://" in text else ""
    egg = re.search(r"(?:^|&)egg=([A-Za-z0-9._-]+)", fragment)
    if egg:
        return canonicalize_name(egg.group(1))
    filename = unquote(urlsplit(text).path if "://" in text else text).replace("\\", "/").split("/")[-1]
    return canonicalize_name(filename.split("-")[0]) if filename.endswith(".whl") else None


def constraint_on(name: NormalizedName, constraints: Sequence[Entry]) -> SpecifierSet:
    """All that the constraint files say of a project."""
    found = SpecifierSet()
    for entry in constraints:
        requirement = parse_requirement(entry.text)
        if requirement is not None and canonicalize_name(requirement.name) == name:
            found &= requirement.specifier
    return found
