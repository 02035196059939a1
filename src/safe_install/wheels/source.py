"""The source of an extension: unpacks an sdist within limits, and reads its build system."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Set

from safe_install.errors import Refused
from safe_install.wheels.recipe import (
    BuildSystem,
    parse_build_system,
)

MAX_SOURCE_SIZE = 4 * 1024**3  # bytes, unpacked
MAX_SOURCE_ENTRIES = 200_000


def unpack_sdist(sdist: Path, folder: Path) -> Path:
    """Unpack a source archive (.tar.gz, .tar.bz2, .zip) into `folder`. The result: its one top
    folder.

    Only plain files and folders below that folder are written. Errors: Refused for anything else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if sdist.name.endswith(".zip"):
            _unpack_zip(sdist, folder)
        else:
            _unpack_tar(sdist, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise Refused(
            f"{sdist.name} cannot be unpacked ({error})", hint="Fetch it again."
        ) from error
    tops = [entry for entry in folder.iterdir() if entry.is_dir()]
    if len(tops) != 1:
        raise Refused(f"{sdist.name} has {len(tops)} top folders where a source archive has one")
    return tops[0]


def _unpack_tar(sdist: Path, folder: Path) -> None:
    with tarfile.open(str(sdist)) as archive:
        members = archive.getmembers()
        _check_amount(sdist, len(members), sum(member.size for member in members))
        links = {PurePosixPath(member.name) for member in members if member.issym()}
        for member in members:
            _check_member(sdist, member, links)
            _set_plain_rights(member)
        options = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(str(folder), members=members, **options)  # type: ignore[arg-type]  # noqa: S202 - each was checked


def _check_member(sdist: Path, member: tarfile.TarInfo, links: Set[PurePosixPath]) -> None:
    """Check that it is written where its name says, below the folder. Errors: Refused."""
    if not (member.isfile() or member.isdir() or _is_inner_link(member)):
        raise Refused(f"{sdist.name}: {member.name!r} is a link that leaves it, or a special file")
    _check_name(sdist, member.name)
    if links.intersection(PurePosixPath(member.name).parents):
        raise Refused(f"{sdist.name}: {member.name!r} would be written through a link")


def _set_plain_rights(member: tarfile.TarInfo) -> None:
    """It gets no special rights, and belongs to whoever unpacks it."""
    member.mode = (member.mode or 0) & 0o755 | stat.S_IRUSR | stat.S_IWUSR
    member.uid = member.gid = 0
    member.uname = member.gname = ""


def _unpack_zip(sdist: Path, folder: Path) -> None:
    with zipfile.ZipFile(str(sdist)) as archive:
        infos = archive.infolist()
        _check_amount(sdist, len(infos), sum(info.file_size for info in infos))
        for info in infos:
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise Refused(f"{sdist.name}: {info.filename!r} is a link or a special file")
            _check_name(sdist, info.filename)
        archive.extractall(str(folder))  # noqa: S202 - each was checked


def _is_inner_link(member: tarfile.TarInfo) -> bool:
    """Is it a symbolic link that stays below the archive's top folder? (Some projects have them.)

    `..` may only be at the beginning of its target: behind another name it would depend on where
    that one leads.
    """
    target = PurePosixPath(member.linkname)
    if not member.issym() or target.is_absolute():
        return False
    ups = len([part for part in target.parts if part == ".."])
    folders = len(PurePosixPath(member.name).parts) - 2  # between the top folder and the link
    return folders >= ups and ".." not in target.parts[ups:]


def _check_name(sdist: Path, name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[:1]:
        raise Refused(f"{sdist.name}: the path {name!r} leaves the archive's folder")


def _check_amount(sdist: Path, entries: int, size: int) -> None:
    if entries > MAX_SOURCE_ENTRIES or size > MAX_SOURCE_SIZE:
        raise Refused(
            f"{sdist.name} would unpack to {entries} entries of {size} bytes, more than the limits"
        )


def read_build_system(source: Path) -> BuildSystem:
    """The build system in its pyproject.toml. Errors: Refused."""
    path = source / "pyproject.toml"
    if not path.is_file():
        return BuildSystem()
    try:
        return parse_build_system(path.read_text("utf-8"))
    except ValueError as error:  # of the text, of TOML or of its values
        raise Refused(
            f"pyproject.toml of {source.name} cannot be read ({error})",
            hint="It cannot be built by any tool: take another version, and tell the project.",
        ) from error
