"""A snapshot of an environment, as values. Pure.

`export` writes a snapshot in other formats (pylock.toml, requirements, environment.yml), `sync`
changes an environment to match one, `diff` compares two, and a bundle has one with its files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple, Union

from packaging.utils import NormalizedName


@dataclass(frozen=True)
class IndexSource:
    """A file on a package index, where project and version find it, too."""

    index: str  # "https://pypi.org/simple"; "" if the index is not known
    url: str
    filename: str
    sha256: str
    size: Optional[int] = None  # bytes


@dataclass(frozen=True)
class UrlSource:
    """A file at a URL that no package index lists, such as one of a wheel host or a release
    page."""

    url: str
    filename: str
    sha256: Optional[str]  # None if it is not known
    size: Optional[int] = None  # bytes
    subdirectory: str = ""  # in a source archive


@dataclass(frozen=True)
class FileSource:
    """A local file. Wheels that were built here have no other source."""

    path: str  # absolute, or relative to the document that names it
    filename: str
    sha256: str
    size: Optional[int] = None  # bytes
    is_built_here: bool = False
    subdirectory: str = ""  # in a source archive


@dataclass(frozen=True)
class DirectorySource:
    """A local source folder."""

    path: str
    is_editable: bool = False
    subdirectory: str = ""


@dataclass(frozen=True)
class RepositorySource:
    """A commit of a repository (PEP 610, PEP 751)."""

    vcs: str  # "git", "hg", "svn", "bzr"
    url: str
    commit: str
    requested_revision: str = ""
    subdirectory: str = ""
    is_editable: bool = False


@dataclass(frozen=True)
class UnknownSource:
    """The source was not recorded, and no index has the file."""

    reason: str  # "its RECORD is missing"
    sha256: str = ""  # of the file; "" if it is not known


KnownSource = Union[IndexSource, UrlSource, FileSource, DirectorySource, RepositorySource]
Source = Union[KnownSource, UnknownSource]


def is_tree(source: Source) -> bool:
    """Is it a folder or a repository? These have no hash, and their version is known only after a
    build."""
    return isinstance(source, (DirectorySource, RepositorySource))


@dataclass(frozen=True)
class RecordedDistribution:
    """One distribution, with its exact source."""

    name: NormalizedName
    version: str  # as in METADATA, with the local version; "" if a document does not have it
    source: Source
    written_name: str = ""  # as in METADATA; "" if a document has only the normalized name
    is_requested: bool = False
    requires_python: str = ""
    # no requested distribution requires it: it belongs to an extra, which is not recorded, or was
    # left
    is_unrequired: bool = False


@dataclass(frozen=True)
class TorchFacts:
    """The facts about torch in a snapshot: an extension may not load with another torch."""

    version: str  # torch.__version__: "2.13.0+cpu"
    accelerator: str  # "cu126", "cpu"
    cuda: str = ""  # torch.version.cuda


@dataclass(frozen=True)
class Snapshot:
    """A whole environment. `distributions` is sorted by name."""

    # python, platform and libc are empty if a document of another program does not have them
    python: str  # "3.11.7"
    platform: str  # "linux_x86_64"
    libc: Tuple[str, str]  # ("glibc", "2.36")
    distributions: Tuple[RecordedDistribution, ...]
    torch: Optional[TorchFacts] = None
    # driver and gpus are written into reports only, not into lock files
    driver: str = ""  # "535.104.05"; "" if there is none
    gpus: Tuple[str, ...] = ()  # "NVIDIA A100 (8.0)"
    markers: Mapping[str, str] = field(default_factory=dict)  # PEP 508's environment markers
    # the machines for which a document is (PEP 751)
    requires_python: str = ""  # "==3.11.*"
    environments: Tuple[str, ...] = ()  # markers, one of which has to be true

    def find(self, name: str) -> Optional[RecordedDistribution]:
        """A distribution by its normalized name; None if there is none."""
        return next((one for one in self.distributions if one.name == name), None)
