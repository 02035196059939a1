"""Our own options, from the command line and from environment variables, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from safe_install.errors import UsageError
from safe_install.models import DEFAULT_BUILD_TIMEOUT, DEFAULT_CHECK_TIMEOUT, BuildTimeout
from safe_install.resolve.command_line import OWN_OPTIONS, Word
from safe_install.resolve.option_rows import OptionRow, variable_of
from safe_install.resolve.pip_settings import is_true
from safe_install.tags import parse_accelerator

DEFAULT_TTL = 24 * 3600.0


@dataclass(frozen=True)
class OwnOptions:
    """The options that are not pip's."""

    python: Optional[str] = None
    dry_run: bool = False
    json: bool = False
    allow_torch_change: bool = False
    # write URLs into direct_url.json only where pip does
    no_direct_url: bool = False
    keep_extensions: bool = False  # installed extensions stay as they are when torch changes
    require_cuda: bool = False
    no_rollback: bool = False
    no_build: bool = False
    is_elsewhere: bool = False  # it is for a machine, or a torch, that is not here: no builds
    offline: bool = False
    target_gpu: Tuple[str, ...] = ()  # compute capabilities, "8.0"
    target_driver: Optional[str] = None  # "535.104"
    third_party: Tuple[str, ...] = ()  # optional hosts of the wheel index that may be asked
    # newest CUDA of the target's driver, where only that was declared
    target_cuda: Optional[str] = None
    no_toolkit: bool = False  # never bring a CUDA toolkit for a build
    build_timeout: BuildTimeout = DEFAULT_BUILD_TIMEOUT
    check_timeout: Optional[float] = DEFAULT_CHECK_TIMEOUT  # seconds for each check; None: no limit
    # refuse a RECORD that lacks a hash or lists a missing file, even for promised bytes
    strict_records: bool = False
    accelerator: Optional[str] = None  # of the new torch: "cu126"; None: the driver decides
    accelerator_origin: str = ""  # which option or variable says it
    ttl: Optional[float] = DEFAULT_TTL  # seconds that a change stays staged; None: no limit
    run: str = (
        ""  # for which it is staged: part of the command that is compared with an earlier one
    )
    bundle: Optional[str] = None  # what is staged comes from this file
    remove: bool = False  # what is staged is a removal
    passed_over: Tuple[str, ...] = ()  # sentences on variables of other programs that say nothing


class _Given:
    """The options of a command, each from its words, else from its variable."""

    def __init__(
        self, words: Sequence[Word], environ: Mapping[str, str], heard: Iterable[OptionRow]
    ) -> None:
        self._words = words
        self._environ = environ
        self._heard = {option.name: option for option in heard}

    def hears(self, name: str) -> bool:
        """Does the command have this option?"""
        return name in self._heard

    def flag(self, name: str) -> bool:
        """Is it on?"""
        return bool(self._written(name)) or is_true(self._variable(name))

    def value(self, name: str) -> Optional[str]:
        """Its value; of several the last one counts."""
        written = self._written(name)
        return (written[-1].value if written else self._variable(name)) or None

    def filled(self, name: str) -> Optional[str]:
        """As `value`, of an option that declares something about a machine: an empty word would
        declare nothing. Errors: UsageError."""
        written = self._written(name)
        if written and not written[-1].value:
            raise UsageError(
                f"{name} has an empty value",
                hint="Leave the option out, or set the shell variable that it is taken from.",
            )
        return self.value(name)

    def names(self, name: str) -> Tuple[str, ...]:
        """Its values, split at commas and spaces."""
        written = [word.value or "" for word in self._written(name)]
        return split_names(written or [self._variable(name) or ""])

    def origin(self, name: str) -> str:
        """Who sets it, as the user writes it: `--accelerator`, `SAFE_INSTALL_ACCELERATOR`; "" where
        nobody does."""
        if self._written(name):
            return name
        return variable_of(name) if self._variable(name) else ""

    def _written(self, name: str) -> List[Word]:
        return [word for word in self._words if word.name == name]

    def _variable(self, name: str) -> Optional[str]:
        option = self._heard.get(name)
        return (
            None
            if option is None or option.variable is None
            else self._environ.get(option.variable)
        )


def own_options(
    words: Sequence[Word],
    environ: Mapping[str, str],
    heard: Iterable[OptionRow] = tuple(OWN_OPTIONS.values()),
) -> OwnOptions:
    """Our options from the words of a command line, else from their variables. Errors: UsageError.

    `heard`: the options of the command; variables of other options are ignored.
    """
    given = _Given(words, environ, heard)
    gpu, driver, cuda = _parse_target(given, environ)
    accelerator, accelerator_origin = _parse_accelerator(given, environ)
    return OwnOptions(
        python=given.value("--python"),
        dry_run=given.flag("--dry-run") or any(word.key == "dry-run" for word in words),
        json=given.flag("--json"),
        allow_torch_change=given.flag("--allow-torch-change"),
        no_direct_url=given.flag("--no-direct-url"),
        keep_extensions=given.flag("--keep-extensions"),
        require_cuda=given.flag("--require-cuda"),
        no_rollback=given.flag("--no-rollback"),
        no_build=given.flag("--no-build"),
        offline=given.flag("--offline"),
        target_gpu=gpu,
        target_driver=driver,
        third_party=given.names("--third-party"),
        target_cuda=cuda,
        no_toolkit=given.flag("--no-toolkit"),
        build_timeout=parse_build_timeout(
            given.value("--build-timeout"), origin=given.origin("--build-timeout")
        ),
        check_timeout=parse_check_timeout(
            given.value("--check-timeout"), origin=given.origin("--check-timeout")
        ),
        strict_records=given.flag("--strict-records"),
        accelerator=accelerator,
        accelerator_origin=accelerator_origin,
        ttl=parse_ttl(given.value("--ttl")),
        run=given.value("--run") or "",
        bundle=given.value("--bundle"),
        remove=given.flag("--remove"),
        passed_over=_describe_passed_over(given, environ),
    )


def _parse_target(
    given: _Given, environ: Mapping[str, str]
) -> Tuple[Tuple[str, ...], Optional[str], Optional[str]]:
    """(compute capabilities, driver version, newest CUDA) of the machine that will run this.
    Errors: UsageError."""
    if not given.hears("--target-driver"):
        return (), None, None
    declared_gpu = given.filled("--target-gpu")
    gpu: Tuple[str, ...] = ()
    if declared_gpu:
        gpu = parse_capabilities(declared_gpu, origin=given.origin("--target-gpu"))
    declared = given.filled("--target-driver")
    # Driver versions have three digits since 2010; two digits are a CUDA version.
    if declared is not None and not re.match(r"^\d{3,}(\.\d+){0,2}$", declared):
        raise UsageError(
            f"{given.origin('--target-driver')} {declared}: not a driver version",
            hint="Write the driver version that nvidia-smi shows, not its CUDA version: 535.104.05.",
        )
    driver = declared or _foreign_driver(environ)
    cuda = None if declared else _foreign_cuda(environ)
    # TORCH_CUDA_ARCH_LIST is also set on machines that have the GPU: it declares another one only
    # together with a driver.
    if not gpu and (driver or cuda) and environ.get("TORCH_CUDA_ARCH_LIST"):
        gpu = _known_capabilities(environ["TORCH_CUDA_ARCH_LIST"])
    return gpu, driver, cuda


UV_VARIABLE = "UV_TORCH_BACKEND"
AUTO = "auto"


def _parse_accelerator(given: _Given, environ: Mapping[str, str]) -> Tuple[Optional[str], str]:
    """(accelerator of the new torch, who sets it); None: the driver decides. Errors: UsageError.

    uv's variable has values of uv's own; one that is no accelerator here is passed over.
    """
    if not given.hears("--accelerator"):
        return None, ""
    origin = given.origin("--accelerator")
    text = given.value("--accelerator")
    if text is None and not origin:
        origin, text = UV_VARIABLE, environ.get(UV_VARIABLE)
    if text is None or text.strip().lower() == AUTO:
        return None, ""
    accelerator = parse_accelerator(text)
    if accelerator is not None:
        return str(accelerator), origin
    if origin == UV_VARIABLE:
        return None, ""
    raise UsageError(
        f"{origin} {text}: not an accelerator", hint="Write auto, cpu, xpu, cu126 or rocm6.4."
    )


DRIVER_VARIABLE = "UV_CUDA_DRIVER_VERSION"
CUDA_VARIABLES = ("CONDA_OVERRIDE_CUDA", "NV_VARIANT_PROVIDER_FORCE_CUDA_DRIVER_VERSION")


def _describe_passed_over(given: _Given, environ: Mapping[str, str]) -> Tuple[str, ...]:
    """Sentences on variables of other programs whose value says nothing here. A typing error in one
    would switch a check off without a word."""
    found: List[str] = []
    if given.hears("--target-driver") and not given.value("--target-driver"):
        for name, text in _filled(environ, DRIVER_VARIABLE):
            if _read_driver(text) is None:
                found.append(f"{name}={text} is no driver version: it is passed over")
        for name, text in _filled(environ, *CUDA_VARIABLES):
            if _read_cuda(text) is None:
                found.append(f"{name}={text} is no CUDA version: it is passed over")
    if given.hears("--accelerator") and not given.origin("--accelerator"):
        for name, text in _filled(environ, UV_VARIABLE):
            if text.lower() != AUTO and parse_accelerator(text) is None:
                found.append(f"{name}={text} is no accelerator: it is passed over")
    return tuple(found)


def _filled(environ: Mapping[str, str], *names: str) -> Iterator[Tuple[str, str]]:
    """(name, value) of the variables that are set; an empty one is not."""
    for name in names:
        text = environ.get(name, "").strip()
        if text:
            yield name, text


_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


def parse_build_timeout(text: Optional[str], *, origin: str = "--build-timeout") -> BuildTimeout:
    """`2h,20m`: the limit of the whole build, then the one without output. `0`: no limit.
    `origin`: the option or variable that says it. Errors: UsageError."""
    if text is None:
        return DEFAULT_BUILD_TIMEOUT
    parts = text.split(",")
    if len(parts) > 2:
        raise _bad_timeout(text, origin)
    whole = _parse_duration(parts[0], text, origin)
    silent = DEFAULT_BUILD_TIMEOUT.silent
    if len(parts) == 2:
        silent = _parse_duration(parts[1], text, origin)
    return BuildTimeout(whole, silent)


def parse_check_timeout(text: Optional[str], *, origin: str = "--check-timeout") -> Optional[float]:
    """Seconds of `90`, `5m`; None for `0`, which is no limit. `origin`: the option or variable that
    says it. Errors: UsageError."""
    if text is None:
        return DEFAULT_CHECK_TIMEOUT
    return parse_limit(
        text, written=f"{origin} {text}", hint="Write seconds, or 5m or 1h (0: no limit)."
    )


def parse_ttl(text: Optional[str]) -> Optional[float]:
    """Seconds of `12h`, `7d`; None for `0`, which is no limit. Errors: UsageError."""
    if text is None:
        return DEFAULT_TTL
    return parse_limit(
        text, written=f"--ttl {text}", hint="Write seconds, or 90m, 12h, 7d (0: no limit)."
    )


def parse_limit(text: str, *, written: str, hint: str) -> Optional[float]:
    """A duration in seconds; None for `0`, which is no limit. `written`: the text in the error,
    with the name of the option or variable. Errors: UsageError."""
    seconds = read_duration(text)
    if seconds is None:
        raise UsageError(f"{written}: not a duration", hint=hint)
    return seconds or None


def _parse_duration(part: str, text: str, origin: str) -> Optional[float]:
    """Seconds, None for 0. Errors: UsageError."""
    seconds = read_duration(part)
    if seconds is None:
        raise _bad_timeout(text, origin)
    return seconds or None


def read_duration(text: str) -> Optional[float]:
    """Seconds of `90`, `90s`, `5m`, `2h`, `7d`; None where it is no duration."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text.strip())
    if match is None:
        return None
    return int(match.group(1)) * float(_SECONDS[match.group(2)])


def _bad_timeout(text: str, origin: str) -> UsageError:
    return UsageError(
        f"{origin} {text}: not a duration",
        hint="Write the limit of the whole build, and after a comma the one without output: 2h,20m (0: no limit).",
    )


def split_names(texts: Iterable[str]) -> Tuple[str, ...]:
    """Names that are separated by commas or spaces, each once."""
    return tuple(
        dict.fromkeys(name for text in texts for name in re.split(r"[,\s]+", text) if name)
    )


def parse_capabilities(text: str, *, origin: str = "--target-gpu") -> Tuple[str, ...]:
    """`8.0,9.0` or TORCH_CUDA_ARCH_LIST's `8.0;8.6+PTX` -> ("8.0", "8.6"). `origin`: the option or
    variable that says it. Errors: UsageError."""
    found = []
    for part in re.split(r"[,;\s]+", text.strip()):
        match = re.match(r"^(\d+)\.(\d)[af]?(\+PTX)?$", part, re.I)
        if match is None:
            raise UsageError(
                f"{origin} {text}: {part!r} is no compute capability",
                hint="Write numbers such as 8.0,9.0.",
            )
        found.append(f"{match.group(1)}.{match.group(2)}")
    return tuple(dict.fromkeys(found))


def _known_capabilities(text: str) -> Tuple[str, ...]:
    """The numbers in TORCH_CUDA_ARCH_LIST; names such as "Ampere" are left to torch."""
    return tuple(dict.fromkeys(re.findall(r"(?<![\d.])\d+\.\d(?!\d)", text)))


def _foreign_cuda(environ: Mapping[str, str]) -> Optional[str]:
    """The newest CUDA of another machine, from the variable of conda or of the NVIDIA variant
    provider ("12.8"; the provider calls it "CUDA driver version", but it is the CUDA that the
    driver supports)."""
    for _, text in _filled(environ, *CUDA_VARIABLES):
        version = _read_cuda(text)
        if version is not None:
            return version
    return None


def _read_cuda(text: str) -> Optional[str]:
    """ "12.8" of `12.8` and of `12.8.1`, "12.0" of `12`, which conda takes, too; None of others."""
    match = re.match(r"^(\d+)(?:\.(\d+))?(?:\.\d+)*$", text)
    return f"{match.group(1)}.{match.group(2) or 0}" if match is not None else None


def _foreign_driver(environ: Mapping[str, str]) -> Optional[str]:
    """The driver version in uv's variable ("550.144.03")."""
    return _read_driver(environ.get(DRIVER_VARIABLE, "").strip())


def _read_driver(text: str) -> Optional[str]:
    return text if re.match(r"^\d+(\.\d+){0,2}$", text) else None


def parse_cxx11_abi(text: Optional[str]) -> Optional[bool]:
    """The value of --cxx11-abi; None where it was not given. Errors: UsageError."""
    if text is None:
        return None
    if text.lower() not in ("true", "false"):
        raise UsageError(
            f"--cxx11-abi {text}: neither true nor false", hint="Write --cxx11-abi true."
        )
    return text.lower() == "true"
