"""From the words of a command line to a request. Our options are taken out; pip's are kept as
written, in order."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Callable, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import unquote, urlsplit

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import InputError, UsageError
from safe_install.models import DEFAULT_NETWORK, NetworkSettings
from safe_install.requirements import parse_requirement
from safe_install.resolve.command_line import Word, Words
from safe_install.resolve.file_options import searched_indexes, values_in_files, words_of_files
from safe_install.resolve.own_options import OwnOptions, own_options
from safe_install.resolve.pip_options import FETCH_GROUPS, INDEX_GROUPS, PLACE_KEYS
from safe_install.resolve.pip_settings import Formats, PipSettings
from safe_install.resolve.requirements_file import (
    Entry,
    Existence,
    Parsed,
    Reader,
    as_path,
    is_lock_file,
    nowhere,
    parse_file,
)
from safe_install.resolve.unheard_options import OF_UNINSTALL, refuse_unheard


@dataclass(frozen=True)
class InstallRequest:
    """`install ARGS`."""

    own: OwnOptions
    # requirements of the command line and of files, without constraints
    entries: Tuple[Entry, ...]
    constraints: Tuple[Entry, ...]
    named_on_command_line: FrozenSet[NormalizedName]
    # for `pip install --dry-run`: everything but ours, --report and --dry-run
    dry_run_arguments: Tuple[str, ...]
    fetch_options: Tuple[str, ...]  # for `pip wheel`: general, index, selection and build options
    pip_arguments: Tuple[str, ...]  # everything but what only we understand
    upgrade: bool = False
    force_reinstall: bool = False
    ignore_installed: bool = False  # installed distributions stay beside the new ones
    no_warn_conflicts: bool = False  # requirements of others may be broken without a warning
    pre: bool = False
    formats: Formats = field(default_factory=Formats)  # --only-binary, --no-binary
    no_deps: bool = False
    require_hashes: bool = False
    compile_bytecode: bool = True
    break_system_packages: bool = False
    quiet: int = 0
    index_url: Optional[str] = None
    # every http(s) URL of an index or a --find-links page
    index_urls: Tuple[str, ...] = ()
    # indexes and --find-links places on the command line itself
    named_places: Tuple[str, ...] = ()
    places_in_files: Tuple[str, ...] = ()  # those in requirements files
    no_input: bool = False
    keyring_provider: str = "auto"
    find_links: Tuple[str, ...] = ()
    no_index: bool = False
    # the option that installs elsewhere: "target", "user", "platform" ...
    place: Optional[str] = None
    target: Optional[str] = None
    root: Optional[str] = None
    prefix: Optional[str] = None
    # --no-user, or `user = no`: never install into the user site by default
    refuses_user: bool = False
    report_file: Optional[str] = None
    src: Optional[str] = None  # folder for clones
    settings_free_options: Tuple[str, ...] = ()  # fetch_options without --config-settings
    index_options: Tuple[str, ...] = ()  # of fetch_options: how pip reaches which index
    verbose: int = 0
    log_file: Optional[Path] = None  # --log: pip's log file
    shows_progress: bool = True
    warns_of_path: bool = True  # warn of scripts in a folder that is not on PATH
    # --group, --requirements-from-script, a lock file: only pip reads what they name
    has_pip_inputs: bool = False
    has_lock: bool = False
    network: NetworkSettings = DEFAULT_NETWORK
    no_cache: bool = False  # --no-cache-dir: large files are not kept
    pip_cache: Optional[str] = None  # --cache-dir
    # pip's options that are set anywhere; "in-file" for those in requirements files
    setting_keys: FrozenSet[str] = frozenset()
    searched_indexes: Tuple[str, ...] = ()  # in pip's order; none with --no-index
    # where every pip looks here, whatever this command line and its files say
    configured_indexes: Tuple[str, ...] = ()

    def config_settings_of(self, name: NormalizedName, *, is_requested: bool) -> Tuple[str, ...]:
        """The --config-settings for the build of a project: from its own line in a file, or from
        the command line that names it.

        As in pip, dependencies get none. The name of a folder or an archive on the command line is
        not known yet.
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
        """The editable entries."""
        return tuple(entry for entry in self.entries if entry.editable)


class UninstallRequest(NamedTuple):
    """`uninstall ARGS`."""

    own: OwnOptions
    names: Tuple[NormalizedName, ...]
    ignored: Tuple[str, ...] = ()  # arguments that name no distribution
    yes: bool = False
    break_system_packages: bool = False
    quiet: int = 0
    log_file: Optional[Path] = None


# --- install --------------------------------------------------------------------------------------


def parse_install(
    words: Words,
    *,
    environ: Mapping[str, str],
    configuration: Mapping[str, str],
    read: Reader,
    exists: Existence = nowhere,
) -> InstallRequest:
    """The request of `install ARGS`. `configuration`: pip's own, by option key (`no-deps`), from
    its files and PIP_* variables; `read` returns the text of a requirements file; `exists`: see
    parse_file. Errors: UsageError."""
    written = words.checked()
    settings = PipSettings(written, configuration)
    files = _read_files(settings, partial(parse_file, read=read, environ=environ, exists=exists))
    request = _parse_inputs(written, settings, files, environ)
    request = _with_effects(request, settings, files)
    request = _with_place(request, settings)
    request = _with_indexes(request, written, settings, files)
    return _with_output(request, settings)


def _read_files(settings: PipSettings, parse: Callable[..., Parsed]) -> List[Parsed]:
    """The constraints files, then the requirements files: pip's order, in which the last
    --index-url counts."""
    files = []
    for location in settings.all("constraint"):
        files.append(parse(location, constraint=True))
    for location in settings.all("requirement"):
        if not is_lock_file(location):
            files.append(parse(location))
    return files


def _parse_inputs(
    words: Sequence[Word],
    settings: PipSettings,
    files: Sequence[Parsed],
    environ: Mapping[str, str],
) -> InstallRequest:
    """The request with what is to be installed, and the words for pip. Errors: InputError where
    nothing is named."""
    config_settings = settings.all("config-settings")
    arguments = [
        Entry(word.value or "", config_settings=config_settings) for word in words if word.argument
    ]
    editables = [Entry(as_path(text), editable=True) for text in settings.all("editable")]
    entries, constraints = _sorted_entries((*arguments, *editables), files)
    has_lock = any(is_lock_file(location) for location in settings.all("requirement"))
    has_pip_inputs = has_lock or bool(
        settings.all("group") or settings.all("requirements-from-script")
    )
    # elsewhere, pip does it all
    if not entries and not has_pip_inputs and settings.place() in (None, "user"):
        _require_input(settings)
    own = own_options(words, environ)
    of_files = words_of_files(files, FETCH_GROUPS)
    return InstallRequest(
        own=replace(own, dry_run=own.dry_run or settings.flag("dry-run")),
        entries=entries,
        constraints=constraints,
        named_on_command_line=_names_written(words),
        dry_run_arguments=_texts(words, without=("report",), without_keys=("user", "yes")),
        fetch_options=(*_texts(words, only=FETCH_GROUPS), *of_files),
        settings_free_options=(
            *_texts(words, only=FETCH_GROUPS, without_keys=("config-settings",)),
            *of_files,
        ),
        pip_arguments=_pip_texts(words),
        has_pip_inputs=has_pip_inputs,
        has_lock=has_lock,
    )


def _names_written(words: Sequence[Word]) -> FrozenSet[NormalizedName]:
    """The projects that the command line itself names."""
    found = set()
    for word in words:
        is_editable = word.key == "editable"
        if word.argument or is_editable:
            text = word.value or ""
            found.add(named(as_path(text) if is_editable else text))
    return frozenset(name for name in found if name is not None)


def _with_effects(
    request: InstallRequest, settings: PipSettings, files: Sequence[Parsed]
) -> InstallRequest:
    """The request with the options on installed distributions and permitted versions."""
    in_files = {key for parsed in files for key, _ in parsed.options}
    has_hashes = any(entry.hashes for entry in request.entries)
    return replace(
        request,
        upgrade=settings.flag("upgrade"),
        force_reinstall=settings.flag("force-reinstall") or settings.flag("ignore-installed"),
        ignore_installed=settings.flag("ignore-installed"),
        no_warn_conflicts=settings.flag("no-warn-conflicts"),
        pre=settings.flag("pre") or "pre" in in_files,
        formats=settings.formats(option for parsed in files for option in parsed.options),
        no_deps=settings.flag("no-deps"),
        require_hashes=settings.flag("require-hashes")
        or "require-hashes" in in_files
        or has_hashes,
        compile_bytecode=settings.compiles(),
        break_system_packages=settings.flag("break-system-packages"),
    )


def _with_place(request: InstallRequest, settings: PipSettings) -> InstallRequest:
    """The request with the options on where files are installed."""
    return replace(
        request,
        place=settings.place(),
        refuses_user=settings.refuses_user(),
        target=settings.one("target"),
        root=settings.one("root"),
        prefix=settings.one("prefix"),
        src=settings.one("src"),
    )


def _with_indexes(
    request: InstallRequest, words: Sequence[Word], settings: PipSettings, files: Sequence[Parsed]
) -> InstallRequest:
    """The request with the options on indexes and how to reach them."""
    in_files = {key: value for parsed in files for key, value in parsed.options}
    # as in pip, the option in a file wins
    index_url = in_files.get("index-url") or settings.one("index-url")
    no_index = settings.flag("no-index") or "no-index" in in_files
    searched = (settings.one("index-url") or PIP_INDEX, *settings.all("extra-index-url"))
    always = settings.configured()
    return replace(
        request,
        setting_keys=settings.keys() | ({"in-file"} if in_files else set()),
        searched_indexes=() if no_index else searched_indexes(searched, files),
        configured_indexes=(*always.all("index-url"), *always.all("extra-index-url")),
        index_url=index_url,
        find_links=(*settings.all("find-links"), *values_in_files(files, "find-links")),
        index_urls=_addresses(settings, files),
        named_places=tuple(word.value for word in words if word.key in PLACE_KEYS and word.value),
        places_in_files=values_in_files(files, *PLACE_KEYS),
        no_input=settings.flag("no-input"),
        keyring_provider=settings.one("keyring-provider") or "auto",
        no_index=no_index,
        index_options=(*_texts(words, only=INDEX_GROUPS), *words_of_files(files, INDEX_GROUPS)),
        network=_network_settings(settings, files),
        no_cache=settings.flag("no-cache-dir"),
        pip_cache=settings.path_text("cache-dir"),
    )


def _with_output(request: InstallRequest, settings: PipSettings) -> InstallRequest:
    """The request with the options on output."""
    return replace(
        request,
        quiet=settings.count("quiet"),
        verbose=settings.count("verbose"),
        report_file=settings.one("report"),
        log_file=settings.path("log"),
        shows_progress=settings.one("progress-bar") != "off",
        warns_of_path=not settings.flag("no-warn-script-location"),
    )


def parse_network(words: Words, configuration: Mapping[str, str]) -> NetworkSettings:
    """How to reach hosts, before any requirements file was read."""
    return _network_settings(PipSettings(words.all, configuration), ())


def _network_settings(settings: PipSettings, files: Sequence[Parsed]) -> NetworkSettings:
    return NetworkSettings(
        proxy=settings.one("proxy"),
        ca_bundle=settings.path_text("cert"),
        client_certificate=settings.path_text("client-cert"),
        trusted_hosts=(*settings.all("trusted-host"), *values_in_files(files, "trusted-host")),
    )


def _require_input(settings: PipSettings) -> None:
    if settings.all("requirement"):
        return  # an empty file: pip only warns
    raise InputError(
        'You must give at least one requirement to install (see "safe-install install --help")',
        hint="Name a project: safe-install torch-scatter.",
    )


PIP_INDEX = "https://pypi.org/simple"  # where pip looks by default


def _addresses(settings: PipSettings, files: Sequence[Parsed]) -> Tuple[str, ...]:
    written = [value for key in PLACE_KEYS for value in settings.all(key)]
    written += values_in_files(files, *PLACE_KEYS)
    return tuple(value for value in written if value.startswith(("http://", "https://")))


def _sorted_entries(
    arguments: Sequence[Entry], files: Sequence[Parsed]
) -> Tuple[Tuple[Entry, ...], Tuple[Entry, ...]]:
    """(requirements, constraints) of the command line and of the files."""
    found = list(arguments)
    for parsed in files:
        found += parsed.entries
    requirements = [entry for entry in found if not entry.constraint]
    constraints = [entry for entry in found if entry.constraint]
    return tuple(requirements), tuple(constraints)


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
            # not needed for resolved requirements, and `pip wheel FOLDER` fails with it (26.2)
            continue
        group = word.option.group if word.option else "argument"
        if only and group not in only:
            continue
        if group in without or word.key in without_keys:
            continue
        kept.extend(word.text)
    return tuple(kept)


def _pip_texts(words: Sequence[Word]) -> Tuple[str, ...]:
    """The words for a pip that does all the work itself: the options that pip has, too, are left to
    it."""
    kept: List[str] = []
    for word in words:
        if not word.name or word.name == "--dry-run":
            kept.extend(word.text)
    return tuple(kept)


# --- uninstall ------------------------------------------------------------------------------------


def parse_uninstall(
    words: Words,
    *,
    environ: Mapping[str, str],
    configuration: Mapping[str, str],
    read: Reader,
    command: str = "uninstall",
) -> UninstallRequest:
    """The request of `uninstall ARGS`, and of `stage --remove ARGS`. Errors: UsageError."""
    written = words.checked()
    own = own_options(written, environ)
    if own.dry_run:
        # pip has no such option, either. Ignoring it would remove what was only to be listed.
        raise UsageError(
            "uninstall has no dry run (--dry-run, SAFE_INSTALL_DRY_RUN)",
            hint="Leave -y out: the files are listed, and nothing is removed before you agree.",
        )
    refuse_unheard(command, written, of_pip=OF_UNINSTALL)
    settings = PipSettings(written, configuration)
    arguments = [word.value or "" for word in written if word.argument]
    ignored = [text for text in arguments if named(text) is None]
    texts = list(arguments)
    for location in settings.all("requirement"):
        entries = parse_file(location, read=read, environ=environ).entries
        texts += [entry.text for entry in entries if not entry.constraint]
    # As in pip, a line in a file that has no name (-e ., a URL) is skipped.
    names = dict.fromkeys(name for name in map(named, texts) if name is not None)
    if not names and ignored:
        raise InputError(
            # pip's words, which scripts look for
            f"Invalid requirement: {ignored[0]!r} ignored - the uninstall command expects named "
            "requirements.",
            hint="safe-install list shows the names.",
        )
    if not names:
        raise InputError(
            'You must give at least one requirement to uninstall (see "safe-install uninstall --help")',
            hint="Name a distribution: safe-install uninstall torch-scatter.",
        )
    return UninstallRequest(
        own,
        tuple(names),
        ignored=tuple(ignored),
        yes=settings.flag("yes") or settings.flag("no-input"),
        break_system_packages=settings.flag("break-system-packages"),
        quiet=settings.count("quiet"),
        log_file=settings.path("log"),
    )


# --- names ----------------------------------------------------------------------------------------


def named(text: str) -> Optional[NormalizedName]:
    """The project that a requirement names; None for a folder, or for an archive without a name."""
    requirement = parse_requirement(text)
    if requirement is not None and (requirement.url or not text.endswith((".whl", ".gz", ".zip"))):
        return canonicalize_name(requirement.name)
    fragment = urlsplit(text).fragment if "://" in text else ""
    egg = re.search(r"(?:^|&)egg=([A-Za-z0-9._-]+)", fragment)
    if egg:
        return canonicalize_name(egg.group(1))
    filename = (
        unquote(urlsplit(text).path if "://" in text else text).replace("\\", "/").split("/")[-1]
    )
    return canonicalize_name(filename.split("-")[0]) if filename.endswith(".whl") else None
