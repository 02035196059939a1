"""The wheels that pip downloaded to plan. Its next run of the command gets them from here.

Where an index has no metadata files (PEP 658), pip downloads each wheel to read its requirements,
and downloads it again in its next run unless its own cache has it. A wheel that is already here
joins the candidates of that run, in a folder of --find-links. pip takes it in place of the index's
file of the same version because of its build tag: of equal versions the higher build tag is chosen
(pip's `CandidateEvaluator`, and "File name convention" of the binary distribution format). Nothing
else about the choice changes. A run that ends without a plan names no addresses: its wheels count
if the page of the package index lists them with their hash.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple
from urllib.parse import unquote, urlsplit

from safe_install.models import Link
from safe_install.pip_output import ArchiveInfo, DownloadInfo, InstallationReport, ReportEntry
from safe_install.redaction import without_secrets
from safe_install.resolve.plan import sha256_of
from safe_install.system.downloads import KeptDownloads

BUILD_TAG = "999999999"  # higher than that of any published wheel
ReadIndex = Callable[[str], Sequence[Link]]


def read_nothing(name: str) -> Sequence[Link]:
    """A ReadIndex without an index."""
    return ()


class PlannedWheels:
    """The wheels of the plans of one command."""

    def __init__(
        self, downloads: KeptDownloads, folder: Path, read_index: ReadIndex = read_nothing
    ) -> None:
        """`folder`: for their files, a new one. `read_index`: the files of a project on the package
        index."""
        self._downloads = downloads
        self._folder = folder
        self._read_index = read_index
        self._has_failed = False  # did the last run end without a plan?
        self._planned: List[DownloadInfo] = []  # of the last plan
        self._origins: Dict[str, DownloadInfo] = {}  # by filename in the folder

    def add(self, report: InstallationReport) -> None:
        """Remember the wheels of an installation report for the next run, if there is one."""
        for entry in report.get("install", ()):
            if not entry.get("is_direct"):
                self._planned.append(entry.get("download_info") or {})

    def add_downloads(self) -> None:
        """Remember the wheels of a run that ended without a report for the next run, if there is
        one."""
        self._has_failed = True

    def find_links(self) -> Tuple[Path, ...]:
        """The folder with the planned wheels that pip downloaded; nothing if there are none."""
        planned, self._planned = self._planned, []
        for download in planned:
            self._put(download)
        if self._has_failed:
            self._has_failed = False
            self._put_listed()
        return (self._folder,) if self._origins else ()

    def _put(self, download: DownloadInfo) -> None:
        name = with_build_tag(filename_of(download))
        if name is None or name in self._origins:
            return
        wheel = self._find(download)
        if wheel is not None:
            self._link(wheel, name, download)

    def _put_listed(self) -> None:
        """The downloaded wheels that the package index lists with their hash, each with its address
        there."""
        from safe_install.wheels.archive import hash_file

        for path in self._downloads.all():
            name = with_build_tag(path.name)
            if name is None or name in self._origins:
                continue
            sha256 = hash_file(path)
            for link in self._read_index(path.name.partition("-")[0]):
                if link.filename == path.name and link.sha256 == sha256:
                    archive: ArchiveInfo = {"hashes": {"sha256": sha256}}
                    url = without_secrets(link.url)
                    self._link(path, name, {"url": url, "archive_info": archive})
                    break

    def _link(self, wheel: Path, name: str, origin: DownloadInfo) -> None:
        os.link(wheel, self._folder / name)
        self._origins[name] = origin

    def _find(self, download: DownloadInfo) -> Optional[Path]:
        """The whole file; None where pip did not download it."""
        from safe_install.wheels.archive import hash_file

        sha256 = sha256_of(download)
        for path in self._downloads.find(filename_of(download)):
            if hash_file(path) == sha256:
                return path
        return None

    def with_origins(self, report: InstallationReport) -> InstallationReport:
        """The report with the URL on the index of each wheel that pip took from the folder."""
        entries: List[ReportEntry] = []
        for entry in report.get("install", ()):
            origin = self._origins.get(filename_of(entry.get("download_info") or {}))
            entries.append(entry if origin is None else {**entry, "download_info": origin})
        return {**report, "install": entries}

    def with_filenames(self, line: str) -> str:
        """A line of pip's output with the filename on the index in place of a path in the
        folder."""
        for name, origin in self._origins.items():
            line = line.replace(str(self._folder / name), filename_of(origin))
        return line


def with_build_tag(filename: str) -> Optional[str]:
    """The filename of a wheel with our build tag; None for what is no wheel."""
    stem, _, extension = filename.rpartition(".")
    parts = stem.split("-")
    if extension != "whl" or len(parts) not in (5, 6):
        return None
    name, version = parts[:2]
    return "-".join([name, version, BUILD_TAG, *parts[-3:]]) + ".whl"


def filename_of(download: DownloadInfo) -> str:
    """The last part of its URL; "" without one."""
    return unquote(urlsplit(str(download.get("url") or "")).path.rpartition("/")[2])
