"""The options of `bundle`: those of an install, the machine, and the output file. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Mapping, Optional

from safe_install.errors import UsageError
from safe_install.resolve.command_line import Words
from safe_install.resolve.own_options import parse_cxx11_abi
from safe_install.resolve.request import InstallRequest, parse_install
from safe_install.resolve.requirements_file import Existence, Reader, nowhere
from safe_install.resolve.unheard_options import refuse_unheard


@dataclass(frozen=True)
class BundleRequest:
    """`bundle REQ... -o FILE [--torch V --python-version V --platform P --cxx11-abi true/false]`."""

    install: InstallRequest
    output: Optional[str] = None  # None only in a dry run
    torch: Optional[str] = None
    python_version: Optional[str] = None
    platform: Optional[str] = None
    cxx11_abi: Optional[bool] = None
    installed: Optional[str] = None  # a file: what is there already

    @property
    def is_elsewhere(self) -> bool:
        """Is the bundle for another machine than this one?"""
        return bool(self.torch or self.python_version or self.platform)


def parse_bundle(
    words: Words,
    *,
    environ: Mapping[str, str],
    configuration: Mapping[str, str],
    read: Reader,
    exists: Existence = nowhere,
) -> BundleRequest:
    """The request of a command line. Errors: UsageError."""
    refuse_unheard("bundle", words.checked())
    install = parse_install(
        words, environ=environ, configuration=configuration, read=read, exists=exists
    )
    _refuse_unbundled(install)
    output = words.value("--output")
    if not output and not install.own.dry_run:
        raise UsageError(
            "bundle needs a file to write", hint="Name one: -o FILE.zip, or see it with --dry-run."
        )
    request = BundleRequest(
        install,
        output or None,
        words.value("--torch"),
        words.value("--python-version"),
        words.value("--platform"),
        parse_cxx11_abi(words.value("--cxx11-abi")),
        words.value("--installed"),
    )
    if request.is_elsewhere:
        # what is built here is for the machine here
        own = dataclasses.replace(install.own, no_build=True, is_elsewhere=True)
        install = dataclasses.replace(install, own=own)
    return dataclasses.replace(request, install=install)


def _refuse_unbundled(install: InstallRequest) -> None:
    """Refuse what a bundle cannot hold. Errors: UsageError."""
    if install.editables:
        raise UsageError(
            f"-e {install.editables[0].text}: an editable install cannot be bundled",
            hint="Name the folder without -e: a wheel of it is built, and bundled.",
        )
    if install.has_pip_inputs:
        raise UsageError(
            "bundle takes requirements and requirements files, no groups, scripts or lock files",
            hint="Name the requirements: safe-install bundle REQ... -o FILE.zip.",
        )
    if install.place is not None:
        raise UsageError(
            f"--{install.place} says where an install goes, and a bundle is installed elsewhere",
            hint=f"Say it there: python FILE.zip install --{install.place} ...",
        )
