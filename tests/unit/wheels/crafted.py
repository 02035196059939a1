"""Wheels and source archives made in memory; everything that a test does not name is right."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Callable, Iterable, Mapping, Optional, Sequence, Tuple, Union

Content = Union[str, bytes]
METADATA = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nRequires-Dist: torch>=1.8\nRequires-Python: >=3.8\n"
WHEEL = (
    "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: cp311-cp311-linux_x86_64\n"
)
FILENAME = "demo-1.0-cp311-cp311-linux_x86_64.whl"


def make_wheel(
    folder: Path,
    files: Optional[Mapping[str, Content]] = None,
    *,
    filename: str = FILENAME,
    metadata: str = METADATA,
    wheel: str = WHEEL,
    dist_info: str = "demo-1.0.dist-info",
    record: Optional[Callable[[str], str]] = None,
    extra: Iterable[Tuple[Union[str, zipfile.ZipInfo], Content]] = (),
    leave_out: Sequence[str] = (),
    compression: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """Write a wheel; `record` changes RECORD's text, `extra` are entries that RECORD does not
    know."""
    members = dict(
        {"demo/__init__.py": "x = 1\n", "demo/_C.so": b"\x7fELF"} if files is None else files
    )
    members[f"{dist_info}/METADATA"] = metadata
    members[f"{dist_info}/WHEEL"] = wheel
    text = (
        "".join(make_row(name, content) for name, content in members.items())
        + f"{dist_info}/RECORD,,\n"
    )
    members[f"{dist_info}/RECORD"] = record(text) if record else text
    path = folder / filename
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            if name not in leave_out:
                archive.writestr(name, content)
        for entry, content in extra:
            archive.writestr(entry, content)
    return path


def make_row(name: str, content: Content) -> str:
    raw = content.encode() if isinstance(content, str) else content
    digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(raw)}\n"


def make_entry(name: str, *, mode: int = 0o100644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def make_sdist(folder: Path, files: Mapping[str, Content], *, name: str = "demo-1.0") -> Path:
    path = folder / f"{name}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member, content in files.items():
            add_member(archive, f"{name}/{member}", content)
    return path


def add_member(archive: tarfile.TarFile, name: str, content: Content) -> None:
    raw = content.encode() if isinstance(content, str) else content
    info = tarfile.TarInfo(name)
    info.size = len(raw)
    archive.addfile(info, io.BytesIO(raw))
