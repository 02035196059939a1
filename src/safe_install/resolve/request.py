"""A pip command line -> what was asked for. Our own options are taken out; pip's stay as they are, in their order."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import InputError, UsageError
from safe_install.models import (
    DEFAULT_BUILD_TIMEOUT,
    DEFAULT_CHECK_TIMEOUT,
    DEFAULT_NETWORK,
    BuildTimeout,
    NetworkSettings,
)
from safe_install.resolve.pip_options import BY_NAME, COMMANDS, FETCH_GROUPS, INDEX_GROUPS, Option, find_option
from safe_install.resolve.requirements_file import (
    Entry,
    Parsed,
    Reader,
    as_path,
    is_lock_file,
    parse_file,
    parse_requirement,
)
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


@dataclass(frozen=True)
class OwnOptions:
    """The options that are not pip's."""

    python: Optional[str] = None
    dry_run: bool = False
    json: bool = False
    allow_torch_change: bool = False
    require_cuda: bool = False
    no_rollback: bool = False
    no_build: bool = False
    offline: bool = False
    target_gpu: Tuple[str, ...] = ()  # compute capabilities, "8.0"
    target_driver: Optional[str] = None  # "535.104"
    third_party: Tuple[str, ...] = ()  # optional hosts of the wheel index that may be asked
    target_cuda: Optional[str] = None  # newest CUDA of the target's driver, where only that was declared
    no_toolkit: bool = False  # never bring a CUDA toolkit for a build
    build_timeout: BuildTimeout = DEFAULT_BUILD_TIMEOUT
    check_timeout: Optional[float] = DEFAULT_CHECK_TIMEOUT  # seconds for each check; None: no limit
    strict_records: bool = False  # a RECORD that leaves something out is refused, whatever was promised


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
class _Word:
    """One option with its value, or one argument."""

    option: Optional[Option]
    name: str  # the own option's name, or ""
    value: Optional[str]
    text: Tuple[str, ...]  # as written
    argument: bool = False  # no option: what pip calls a positional argument

    @property
    def key(self) -> str:
        return self.option.key if self.option else ""


def _split_words(argv: Sequence[str], own: Mapping[str, bool]) -> List[_Word]:
    """Options with their values and arguments, in order. Errors: UsageError for a value that is missing."""
    words: List[_Word] = []
    rest = list(argv)
    while rest:
        text = rest.pop(0)
        if text == "--":
            words.append(_Word(None, "", None, (text,)))  # stays: what follows may begin with a hyphen
            words += [_Word(None, "", argument, (argument,), argument=True) for argument in rest]
            break
        if not text.startswith("-") or text == "-":
            words.append(_Word(None, "", text, (text,), argument=True))
        elif text.startswith("--"):
            words.append(_long_word(text, rest, own))
        else:
            words += _short_words(text, rest)
    return words


def _long_word(text: str, rest: List[str], own: Mapping[str, bool]) -> _Word:
    name, equals, value = text.partition("=")
    option = None if name in own else find_option(name)
    if option is None and name not in own:
        _refuse_misspelled_option(name, own)
    takes_value = own.get(name, option is not None and option.takes_value)
    kept_name = name if name in own else ""
    if not takes_value:
        if equals and name in own:
            raise UsageError(f"{name} takes no value", hint=f"Write {name} alone.")
        return _Word(option, kept_name, None, (text,))
    if equals:
        return _Word(option, kept_name, value, (text,))
    if not rest:
        raise UsageError(f"{name} needs a value", hint=f"Write {name} VALUE.")
    value = rest.pop(0)
    return _Word(option, kept_name, value, (text, value))


def _refuse_misspelled_option(name: str, own: Mapping[str, bool]) -> None:
    """An option that nobody has, one letter from one that somebody has. Any other is pip's to judge: it may be new."""
    meant = nearest_option(name, [*own, *BY_NAME])
    if meant is not None:
        raise UsageError(f"no such option: {name}", hint=f"Did you mean: {meant}?")


def _short_words(text: str, rest: List[str]) -> List[_Word]:
    """A cluster such as -qU, or -rfile."""
    words: List[_Word] = []
    letters = text[1:]
    while letters:
        name, letters = f"-{letters[0]}", letters[1:]
        option = find_option(name)
        if option is None or not option.takes_value:
            words.append(_Word(option, "", None, (name,)))
            continue
        if letters:
            words.append(_Word(option, "", letters, (name + letters,)))
        elif rest:
            value = rest.pop(0)
            words.append(_Word(option, "", value, (name, value)))
        else:
            raise UsageError(f"{name} needs a value", hint=f"Write {name} VALUE.")
        letters = ""
    return words


# --- our own options -------------------------------------------------------------------------------

_FALSE = ("", "0", "false", "no", "off", "n", "f")


def own_options(values: Mapping[str, Optional[str]], environ: Mapping[str, str]) -> OwnOptions:
    """Our options where Typer read them: `values` by option, None for what was not written. Errors: UsageError."""
    return _own_options([_Word(None, name, value, ()) for name, value in values.items() if value is not None], environ)


def _own_options(words: Sequence[_Word], environ: Mapping[str, str]) -> OwnOptions:
    written = {word.name: word.value for word in words if word.name}

    def flag(name: str) -> bool:
        return name in written or is_true(environ.get(_variable(name)))

    def value(name: str) -> Optional[str]:
        return (written[name] if name in written else environ.get(_variable(name))) or None

    declared_gpu = value("--target-gpu")
    gpu = parse_capabilities(declared_gpu) if declared_gpu else ()
    driver = declared = value("--target-driver")
    if driver is not None and not re.match(r"^\d+(\.\d+){0,2}$", driver):
        raise UsageError(
            f"--target-driver {driver}: not a driver version", hint="Write it as nvidia-smi does: 535.104.05."
        )
    driver = driver or _foreign_driver(environ)
    cuda = None if declared else _foreign_cuda(environ)
    # TORCH_CUDA_ARCH_LIST is also set on machines that have their GPU: it declares one only in company of a driver.
    if not gpu and (driver or cuda) and environ.get("TORCH_CUDA_ARCH_LIST"):
        gpu = _known_capabilities(environ["TORCH_CUDA_ARCH_LIST"])
    return OwnOptions(
        python=value("--python"),
        dry_run=flag("--dry-run") or any(word.key == "dry-run" for word in words),
        json=flag("--json"),
        allow_torch_change=flag("--allow-torch-change"),
        require_cuda=flag("--require-cuda"),
        no_rollback=flag("--no-rollback"),
        no_build=flag("--no-build"),
        offline=flag("--offline"),
        target_gpu=gpu,
        target_driver=driver,
        third_party=split_names(
            [word.value or "" for word in words if word.name == "--third-party"]
            or [environ.get(_variable("--third-party"), "")]
        ),
        target_cuda=cuda,
        no_toolkit=flag("--no-toolkit"),
        build_timeout=parse_build_timeout(value("--build-timeout")),
        check_timeout=parse_check_timeout(value("--check-timeout")),
        strict_records=flag("--strict-records"),
    )


_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_build_timeout(text: Optional[str]) -> BuildTimeout:
    """`2h,20m`: the limit of the whole build, then the one without output. `0`: no limit. Errors: UsageError."""
    if text is None:
        return DEFAULT_BUILD_TIMEOUT
    parts = text.split(",")
    if len(parts) > 2:
        raise _bad_timeout(text)
    whole = _parse_duration(parts[0], text)
    silent = _parse_duration(parts[1], text) if len(parts) == 2 else DEFAULT_BUILD_TIMEOUT.silent
    return BuildTimeout(whole, silent)


def parse_check_timeout(text: Optional[str]) -> Optional[float]:
    """Seconds of `90`, `5m`; None for `0`, which is no limit. Errors: UsageError."""
    if text is None:
        return DEFAULT_CHECK_TIMEOUT
    seconds = _read_duration(text)
    if seconds is None:
        raise UsageError(f"--check-timeout {text}: not a duration", hint="Write seconds, or 5m or 1h (0: no limit).")
    return seconds or None


def _parse_duration(part: str, text: str) -> Optional[float]:
    """Seconds, None for 0. Errors: UsageError."""
    seconds = _read_duration(part)
    if seconds is None:
        raise _bad_timeout(text)
    return seconds or None


def _read_duration(text: str) -> Optional[float]:
    """Seconds of `90`, `90s`, `5m`, `2h`; None where it is no duration."""
    match = re.fullmatch(r"([0-9]{1,9})([smh]?)", text.strip())
    if match is None:
        return None
    return int(match.group(1)) * float(_SECONDS[match.group(2)])


def _bad_timeout(text: str) -> UsageError:
    return UsageError(
        f"--build-timeout {text}: not a duration",
        hint="Write the limit of the whole build, and after a comma the one without output: 2h,20m (0: no limit).",
    )


def split_names(texts: Iterable[str]) -> Tuple[str, ...]:
    """Names that are separated by commas or spaces, each once."""
    return tuple(dict.fromkeys(name for text in texts for name in re.split(r"[,\s]+", text) if name))


def _variable(name: str) -> str:
    return "SAFE_INSTALL_" + name[2:].upper().replace("-", "_")


def is_true(text: Optional[str]) -> bool:
    """How pip reads a flag from the environment or a configuration file."""
    return text is not None and text.strip().lower() not in _FALSE


def parse_capabilities(text: str) -> Tuple[str, ...]:
    """`8.0,9.0` or TORCH_CUDA_ARCH_LIST's `8.0;8.6+PTX` -> ("8.0", "8.6"). Errors: UsageError."""
    found = []
    for part in re.split(r"[,;\s]+", text.strip()):
        match = re.match(r"^(\d+)\.(\d)[af]?(\+PTX)?$", part, re.I)
        if match is None:
            raise UsageError(
                f"--target-gpu {text}: {part!r} is no compute capability", hint="Write numbers such as 8.0,9.0."
            )
        found.append(f"{match.group(1)}.{match.group(2)}")
    return tuple(dict.fromkeys(found))


def _known_capabilities(text: str) -> Tuple[str, ...]:
    """The numbers in TORCH_CUDA_ARCH_LIST; names such as "Ampere" are left to torch."""
    return tuple(dict.fromkeys(re.findall(r"(?<![\d.])\d+\.\d(?!\d)", text)))


def _foreign_cuda(environ: Mapping[str, str]) -> Optional[str]:
    """The newest CUDA of a machine elsewhere, as conda's or the NVIDIA variant provider's variable declares it ("12.8":
    the provider's "CUDA driver version" is the CUDA that the driver serves, not the number that nvidia-smi shows)."""
    for name in ("CONDA_OVERRIDE_CUDA", "NV_VARIANT_PROVIDER_FORCE_CUDA_DRIVER_VERSION"):
        text = environ.get(name, "").strip()
        if re.match(r"^\d+\.\d+$", text):
            return text
    return None


def _foreign_driver(environ: Mapping[str, str]) -> Optional[str]:
    """A driver version that uv's variable declares ("550.144.03")."""
    text = environ.get("UV_CUDA_DRIVER_VERSION", "").strip()
    return text if re.match(r"^\d+(\.\d+){0,2}$", text) else None


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
    words = _split_words(argv, OWN_OPTIONS)
    settings = _Settings(words, configuration)
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
    own = _own_options(words, environ)
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
    return _network_settings(_Settings(_split_words(argv, OWN_OPTIONS), configuration), ())


def _network_settings(settings: _Settings, files: Sequence[Parsed]) -> NetworkSettings:
    trusted_in_files = (value for parsed in files for key, value in parsed.options if key == "trusted-host" and value)
    return NetworkSettings(
        proxy=settings.one("proxy"),
        ca_bundle=settings.path_text("cert"),
        client_certificate=settings.path_text("client-cert"),
        trusted_hosts=(*settings.all("trusted-host"), *trusted_in_files),
    )


def _require_input(settings: _Settings) -> None:
    if settings.all("requirement"):
        return  # an empty file: pip warns and is content
    raise InputError(
        'You must give at least one requirement to install (see "safe-install install --help")',
        hint="Name a project: safe-install torch-scatter.",
    )


PLACE_KEYS = ("index-url", "extra-index-url", "find-links")


def _addresses(settings: _Settings, files: Sequence[Parsed]) -> Tuple[str, ...]:
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
    words: Sequence[_Word],
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


def _pip_texts(words: Sequence[_Word]) -> Tuple[str, ...]:
    """For a pip that does the whole work: its own options that we have too are its own again."""
    kept: List[str] = []
    for word in words:
        if not word.name or word.name == "--dry-run":
            kept.extend(word.text)
    return tuple(kept)


class _Settings:
    """pip's options: the command line, else the configuration."""

    def __init__(self, words: Sequence[_Word], configuration: Mapping[str, str]) -> None:
        self._words = words
        self._configuration = configuration

    def flag(self, key: str) -> bool:
        return any(word.key == key for word in self._words) or is_true(self._configuration.get(key))

    def count(self, key: str) -> int:
        written = sum(1 for word in self._words if word.key == key)
        text = self._configuration.get(key, "")
        return written or (int(text) if text.isdigit() else int(is_true(text) if text else 0))

    def one(self, key: str) -> Optional[str]:
        written = [word.value for word in self._words if word.key == key and word.value is not None]
        return written[-1] if written else self._configuration.get(key) or None

    def path(self, key: str) -> Optional[Path]:
        value = self.one(key)
        return Path(value).expanduser() if value else None

    def path_text(self, key: str) -> Optional[str]:
        path = self.path(key)
        return None if path is None else str(path)

    def all(self, key: str) -> Tuple[str, ...]:
        """Every value; pip too adds the command line's to the configured ones."""
        written = tuple(word.value for word in self._words if word.key == key and word.value is not None)
        return (*self._configuration.get(key, "").split(), *written)

    def compiles(self) -> bool:
        """Bytecode or not: the last word wins. In pip's configuration `no-compile = no` is what switches it off."""
        written = [word.key for word in self._words if word.key in ("compile", "no-compile")]
        if written:
            return written[-1] == "compile"
        configured = [self._configuration[key] for key in ("compile", "no-compile") if key in self._configuration]
        return is_true(configured[-1]) if configured else True

    def place(self) -> Optional[str]:
        for key in ("target", "root", "prefix", "platform", "python-version", "implementation", "abi"):
            if self.one(key):
                return key
        written = [word.key for word in self._words if word.key in ("user", "no-user")]
        if written:
            return "user" if written[-1] == "user" else None
        return "user" if is_true(self._configuration.get("user")) else None

    def refuses_user(self) -> bool:
        """Was the user site ruled out in so many words?"""
        written = [word.key for word in self._words if word.key in ("user", "no-user")]
        if written:
            return written[-1] == "no-user"
        return "user" in self._configuration and not is_true(self._configuration["user"])


# --- uninstall and explain -------------------------------------------------------------------------


def parse_uninstall(
    argv: Sequence[str], *, environ: Mapping[str, str], configuration: Mapping[str, str], read: Reader
) -> UninstallRequest:
    """`uninstall ARGS`. Errors: UsageError."""
    words = _split_words(argv, OWN_OPTIONS)
    settings = _Settings(words, configuration)
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
        _own_options(words, environ),
        tuple(names),
        ignored=tuple(ignored),
        yes=settings.flag("yes") or settings.flag("no-input"),
        break_system_packages=settings.flag("break-system-packages"),
        quiet=settings.count("quiet"),
        log_file=settings.path("log"),
    )


def parse_explain(argv: Sequence[str], *, environ: Mapping[str, str]) -> ExplainRequest:
    """`explain REQ... [--torch V --python-version V --platform P --cxx11-abi true/false]`. Errors: UsageError."""
    words = _split_words(argv, {**OWN_OPTIONS, **EXPLAIN_OPTIONS})
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
        _own_options(words, environ),
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
