"""A snapshot of an environment, as values. Pure.

`export` writes one in the forms of others (pylock.toml, requirements, environment.yml), `sync` makes
an environment what one says, `diff` compares two of them, and a bundle carries one with its files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple, Union

from packaging.utils import NormalizedName


@dataclass(frozen=True)
class IndexSource:
    """A file of a package index, where project and version identify it, too."""

    index: str  # "https://pypi.org/simple"; "" where the index is not known
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
    sha256: Optional[str]  # None: nobody wrote it down
    size: Optional[int] = None
    subdirectory: str = ""  # of an archive of sources


@dataclass(frozen=True)
class FileSource:
    """A local file. Wheels that were built here have no other source."""

    path: str  # absolute, or relative to the document that names it
    filename: str
    sha256: str
    size: Optional[int] = None
    is_built_here: bool = False
    subdirectory: str = ""  # of an archive of sources


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
    sha256: str = ""  # of the file, where that was written down


Source = Union[IndexSource, UrlSource, FileSource, DirectorySource, RepositorySource, UnknownSource]


def is_tree(source: Source) -> bool:
    """Is it a folder or a repository? These have no hash, and their version is known only after a
    build."""
    return isinstance(source, (DirectorySource, RepositorySource))


@dataclass(frozen=True)
class RecordedDistribution:
    """One distribution, with its exact source."""

    name: NormalizedName
    # as its metadata writes it, with the local version; "" where a document does not say it
    version: str
    source: Source
    written_name: str = ""  # as its metadata writes it; "" where a document has the normalized one
    is_requested: bool = False
    requires_python: str = ""
    # does nothing that was requested bring it? (extras are not recorded, and leftovers have nobody)
    is_alone: bool = False


@dataclass(frozen=True)
class TorchFacts:
    """The facts about torch in a snapshot, which explain why an extension would not load
    elsewhere."""

    version: str  # torch.__version__: "2.13.0+cpu"
    accelerator: str  # "cu126", "cpu"
    cuda: str = ""  # torch.version.cuda


@dataclass(frozen=True)
class Snapshot:
    """A whole environment. `distributions` is sorted by name."""

    # of the three: empty where a document of another program does not say it
    python: str  # "3.11.7"
    platform: str  # "linux_x86_64"
    libc: Tuple[str, str]  # ("glibc", "2.36")
    distributions: Tuple[RecordedDistribution, ...]
    torch: Optional[TorchFacts] = None
    # The machine, which no lock file holds: it is written into reports only.
    driver: str = ""  # "535.104.05"; "" where none is here
    gpus: Tuple[str, ...] = ()  # "NVIDIA A100 (8.0)"
    markers: Mapping[str, str] = field(default_factory=dict)  # PEP 508's environment markers
    # what a document says of where it fits (PEP 751); of an environment here, what its export says
    requires_python: str = ""  # "==3.11.*"
    environments: Tuple[str, ...] = ()  # markers, of which one has to be true

    def find(self, name: str) -> Optional[RecordedDistribution]:
        """A distribution by its normalized name; None where there is none."""
        return next((one for one in self.distributions if one.name == name), None)
