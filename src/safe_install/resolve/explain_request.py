"""The options of `explain`: what is asked about, the machine, and pip's indexes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Optional, Sequence, Tuple

from packaging.requirements import Requirement

from safe_install.errors import UsageError
from safe_install.requirements import parse_requirement
from safe_install.resolve.command_line import Word, Words
from safe_install.resolve.own_options import OwnOptions, parse_cxx11_abi
from safe_install.resolve.pip_options import PLACE_KEYS
from safe_install.resolve.request import InstallRequest, parse_install
from safe_install.resolve.requirements_file import Existence, Reader, nowhere
from safe_install.resolve.unheard_options import OF_EXPLAIN, refuse_unheard


@dataclass(frozen=True)
class ExplainRequest:
    """`explain REQ...`, perhaps for a machine that is not here."""

    install: InstallRequest  # the install that is explained
    requirements: Tuple[Requirement, ...]
    torch: Optional[str] = None
    python_version: Optional[str] = None
    platform: Optional[str] = None
    cxx11_abi: Optional[bool] = None
    place_words: Tuple[str, ...] = ()  # the command line's options on where pip looks

    @property
    def own(self) -> OwnOptions:
        """Our own options."""
        return self.install.own


def parse_explain(
    words: Words,
    *,
    environ: Mapping[str, str],
    configuration: Mapping[str, str],
    read: Reader,
    exists: Existence = nowhere,
) -> ExplainRequest:
    """The request of a command line. The arguments: as those of parse_install. Errors:
    UsageError."""
    written = words.checked()
    refuse_unheard("explain", written, of_pip=OF_EXPLAIN)
    requirements = _read_requirements(written)
    install = parse_install(
        words, environ=environ, configuration=configuration, read=read, exists=exists
    )
    return ExplainRequest(
        install,
        requirements,
        torch=words.value("--torch"),
        python_version=words.value("--python-version"),
        platform=words.value("--platform"),
        cxx11_abi=parse_cxx11_abi(words.value("--cxx11-abi")),
        place_words=_texts_of_places(written),
    )


def _read_requirements(words: Sequence[Word]) -> Tuple[Requirement, ...]:
    """What `explain` is asked about. Errors: UsageError."""
    requirements = []
    for word in words:
        if word.argument:
            requirement = parse_requirement(word.value or "")
            if requirement is None:
                raise UsageError(
                    f"{word.value}: not a requirement",
                    hint="Write a name: safe-install explain torch-scatter.",
                )
            requirements.append(requirement)
    if not requirements:
        raise UsageError(
            "explain needs a requirement", hint="Write: safe-install explain torch-scatter."
        )
    return tuple(requirements)


def _texts_of_places(words: Sequence[Word]) -> Tuple[str, ...]:
    found: List[str] = []
    for word in words:
        if word.key in (*PLACE_KEYS, "no-index"):
            found += word.text
    return tuple(found)
