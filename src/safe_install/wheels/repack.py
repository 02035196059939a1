"""Makes a wheel from installed files."""

from __future__ import annotations

import os
import re
import zipfile
from configparser import ConfigParser, Error
from pathlib import Path
from typing import Dict, FrozenSet, List, Mapping, Optional

from packaging.tags import parse_tag

from safe_install.environment.record import RecordEntry, make_entry, render_record
from safe_install.models import InstalledDistribution, Scheme

ENDING = ".dist-info"
TAG = re.compile(r"(?m)^Tag:[ \t]*([^\s-]+-[^\s-]+-[^\s-]+)[ \t\r]*$")
SCRIPTS_OF_INSTALLERS = ("console_scripts", "gui_scripts")
EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip archive


def repack(
    distribution: InstalledDistribution, files: Mapping[str, Path], scheme: Scheme, folder: Path
) -> Optional[Path]:
    """The wheel, in this folder; None where its tags or names are not known. `files`: the rows of
    the RECORD, and where the content of each is. direct_url.json is kept. Errors: OSError;
    ValueError for a file outside of the environment."""
    info = distribution.metadata_path.name
    if not info.endswith(ENDING) or f"{info}/WHEEL" not in files:
        return None
    stem = info[: -len(ENDING)]
    tag = _tag_of(files[f"{info}/WHEEL"].read_text(errors="replace"))
    members = _name_members(distribution.location, files, scheme, stem)
    address = distribution.metadata_path / "direct_url.json"
    if distribution.direct_url is not None and address.is_file():
        members[f"{info}/direct_url.json"] = address
    if tag is None:
        return None
    path = folder / f"{stem}-{tag}.whl"
    rows: List[RecordEntry] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, file in members.items():
            content = file.read_bytes()
            rows.append(make_entry(name, content))
            archive.writestr(_member(name, file), content)
        rows.append(RecordEntry(f"{info}/RECORD", "", ""))
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", EARLIEST), render_record(rows))
    return path


def _member(name: str, file: Path) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, EARLIEST)
    member.external_attr = file.stat().st_mode << 16
    return member


def _tag_of(text: str) -> Optional[str]:
    """The compressed tag of a file name: "py2.py3-none-any" from two lines."""
    tags = [tag for written in TAG.findall(text) for tag in parse_tag(written)]
    if not tags:
        return None
    interpreters = {tag.interpreter for tag in tags}
    abis = {tag.abi for tag in tags}
    platforms = {tag.platform for tag in tags}
    return "-".join(".".join(sorted(part)) for part in (interpreters, abis, platforms))


def _name_members(
    location: Path, files: Mapping[str, Path], scheme: Scheme, stem: str
) -> Dict[str, Path]:
    """The names in the archive. Files outside of site-packages were in `.data`."""
    points = files.get(f"{stem}{ENDING}/entry_points.txt")
    written_anew = _read_commands(points) if points is not None else frozenset()
    members: Dict[str, Path] = {}
    for row, file in files.items():
        path = Path(os.path.normpath(location / row))
        if location in path.parents:
            members[row] = file
        elif path.parent != scheme.scripts:
            members[f"{stem}.data/data/{path.relative_to(scheme.data).as_posix()}"] = file
        elif path.name not in written_anew:
            members[f"{stem}.data/scripts/{path.name}"] = file
    return members


def _read_commands(file: Path) -> FrozenSet[str]:
    """The names of scripts that an installer writes."""
    parser = ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(file.read_text(encoding="utf-8", errors="replace"))
    except Error:
        return frozenset()
    sections = [name for name in SCRIPTS_OF_INSTALLERS if parser.has_section(name)]
    return frozenset(command for name in sections for command in parser.options(name))
