"""Fills a transaction's stage: pip unpacks verified wheels there, and the dist-info says what it would have said.

pip is handed names and a folder; so that nothing but our verified files can be taken, it gets no index and no
configuration. What pip cannot know that way is written afterwards: which distribution was asked for (REQUESTED) and
where a direct reference came from (direct_url.json, PEP 610).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Mapping, Sequence, Tuple
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name

from safe_install.errors import Refused
from safe_install.events import Reporter
from safe_install.models import Step
from safe_install.system.pip import PipRunner
from safe_install.system.process import LineReader

MANY_FILES = 1500  # from here on compiling on all cores is worth a second process


@dataclass(frozen=True)
class StagedWheel:
    """One wheel to be unpacked, with the step that it carries out."""

    step: Step
    path: Path
    filename: str  # under which pip takes it
    version: str  # of its METADATA: what pip compares
    files: int
    misrecorded: Tuple[str, ...] = ()  # archive paths whose rows in the wheel's RECORD are missing or not true


def fill_stage(
    pip: PipRunner,
    stage: Path,
    wheels: Sequence[StagedWheel],
    *,
    folder: Path,
    compile_bytecode: bool,
    options: Sequence[str] = (),
    reporter: Reporter,
) -> None:
    """Unpack `wheels` below `stage`.

    `options` choose the scheme (`--user`); `folder` is an empty directory of ours for pip's find-links.
    """
    if not wheels:
        return
    for wheel in wheels:
        _link(wheel.path, folder / wheel.filename)
    in_parallel = compile_bytecode and sum(wheel.files for wheel in wheels) > MANY_FILES
    if not compile_bytecode or in_parallel:
        options = (*options, "--no-compile")
    task = f"unpack {len(wheels)} wheel{'s' if len(wheels) > 1 else ''}"
    with reporter.task(task):
        pip.stage(
            [f"{wheel.step.name}=={wheel.version}" for wheel in wheels],
            root=stage,
            find_links=[folder],
            options=options,
            on_line=lambda line: reporter.task_advanced(task, 0, line),
        )
        if in_parallel:
            pip.compile(stage, strip=stage)
        for wheel in wheels:
            _finish_dist_info(stage, wheel)


def stage_editables(
    pip: PipRunner,
    stage: Path,
    steps: Sequence[Step],
    *,
    options: Sequence[str],
    reporter: Reporter,
    readers: Callable[[str], Mapping[str, LineReader]],
) -> None:
    """Make each editable install below `stage`. `readers`: what becomes of pip's lines, for a task."""
    for step in steps:
        task = f"editable install of {step.name}"
        with reporter.task(task):
            pip.stage_editable(_path_of(step), root=stage, options=options, **readers(task))


def _path_of(step: Step) -> str:
    path = str((step.download_info or {}).get("url", ""))
    if path.startswith("file://"):
        path = unquote(urlsplit(path).path)
    return path


def _link(source: Path, target: Path) -> None:
    try:
        os.symlink(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _finish_dist_info(stage: Path, wheel: StagedWheel) -> None:
    step = wheel.step
    folder = _find_dist_info(stage, step)
    extra: List[Tuple[str, bytes]] = []
    if step.is_direct and step.download_info is not None:
        extra.append(("direct_url.json", _direct_url(step.download_info)))
    removed = () if step.requested else ("REQUESTED",)
    # pip copies the rows of the wheel as they are. Where a file of a scheme other than site-packages lies, only pip
    # knows: it stays without a hash.
    misrecorded = [name for name in wheel.misrecorded if (folder.parent / name).is_file()]
    if extra or removed or misrecorded:
        _rewrite_record(folder, extra, removed, misrecorded)


def _find_dist_info(stage: Path, step: Step) -> Path:
    for parent, folders, _ in os.walk(stage):
        for name in folders:
            if name.endswith(".dist-info"):
                found = name[: -len(".dist-info")].split("-")[0]
                if canonicalize_name(found) == step.name:
                    return Path(parent) / name
        folders[:] = [name for name in folders if not _is_package_of_wheel(name)]
    raise Refused(
        f"pip unpacked {step.name} without a dist-info folder",
        hint="The wheel is not usable; report it to its maintainers.",
    )


def _is_package_of_wheel(name: str) -> bool:
    """Import packages never hold dist-info folders: walking into torch's 9,000 files finds nothing."""
    return name in ("torch", "nvidia", "triton", "__pycache__")


def _direct_url(download_info: Mapping[str, object]) -> bytes:
    kept = {
        key: value
        for key, value in download_info.items()
        if key in ("url", "archive_info", "dir_info", "vcs_info", "subdirectory")
    }
    return json.dumps(kept, sort_keys=True).encode()


def _rewrite_record(
    folder: Path, extra: Sequence[Tuple[str, bytes]], removed: Sequence[str], misrecorded: Sequence[str]
) -> None:
    """Write RECORD anew: without what is removed, with what is added, and with the true hashes of `misrecorded`."""
    record = folder / "RECORD"
    with record.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    gone = {f"{folder.name}/{name}" for name in removed}
    added = {f"{folder.name}/{name}" for name, _ in extra}
    rows = [row for row in rows if row[0] not in gone | added | set(misrecorded)]
    for name in removed:
        path = folder / name
        if path.exists():
            path.unlink()
    for name, content in extra:
        (folder / name).write_bytes(content)
        rows.append(_row(f"{folder.name}/{name}", content))
    rows += [_row(name, (folder.parent / name).read_bytes()) for name in misrecorded]
    text = io.StringIO()
    csv.writer(text).writerows(sorted(rows))  # in pip's order, and with its ends of lines
    record.write_bytes(text.getvalue().encode("utf-8"))


def _row(path: str, content: bytes) -> List[str]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return [path, f"sha256={digest}", str(len(content))]
