"""Fills a transaction's stage: pip unpacks verified wheels there, and the dist-info says what it
would have said.

pip is handed names and a folder; so that nothing but our verified files can be taken, it gets no
index and no configuration. What pip cannot know that way is written afterwards: which distribution
was asked for (REQUESTED) and where a direct reference came from (direct_url.json, PEP 610).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import AbstractSet, Callable, Dict, List, Mapping, Sequence, Tuple
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name

from safe_install.environment.record import RecordEntry, make_entry, read_record, render_record
from safe_install.errors import Refused
from safe_install.events import Reporter
from safe_install.models import Step
from safe_install.redaction import redact
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
    # paths whose rows in the wheel's RECORD are missing or not true
    misrecorded: Tuple[str, ...] = ()
    not_in_archive: Tuple[str, ...] = ()  # those of them that have a row and are not in the wheel


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

    `options` choose the scheme (`--user`); `folder` is an empty directory of ours for pip's
    find-links.
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
    """Make each editable install below `stage`. `readers`: what becomes of pip's lines, for a
    task."""
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
    removed = () if step.requested or step.keeps_requested else ("REQUESTED",)
    removed_rows = [f"{folder.name}/{name}" for name in removed]
    for name in removed:
        if (folder / name).exists():
            (folder / name).unlink()
    if extra or removed or wheel.misrecorded:
        _rewrite_record(
            stage, folder, extra, (*removed_rows, *wheel.not_in_archive), wheel.misrecorded
        )


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
    """Import packages never hold dist-info folders: walking into torch's 9,000 files finds
    nothing."""
    return name in ("torch", "nvidia", "triton", "__pycache__")


def _direct_url(download_info: Mapping[str, object]) -> bytes:
    kept = {
        key: value
        for key, value in download_info.items()
        if key in ("url", "archive_info", "dir_info", "vcs_info", "subdirectory")
    }
    if isinstance(kept.get("url"), str):
        # PEP 610: no secrets. pip takes out passwords, and leaves `?token=`.
        kept["url"] = redact(str(kept["url"]))
    return json.dumps(kept, sort_keys=True).encode()


def _rewrite_record(
    stage: Path,
    folder: Path,
    extra: Sequence[Tuple[str, bytes]],
    removed: Sequence[str],
    misrecorded: Sequence[str],
) -> None:
    """Write RECORD anew: without the rows `removed`, with what is added, and where it was wrong,
    with what is true."""
    gone = set(removed)
    added = {f"{folder.name}/{name}" for name, _ in extra}
    entries = [entry for entry in read_record(folder) if entry.path not in gone | added]
    if misrecorded:
        entries = _true_entries(entries, stage, folder, set(misrecorded))
    for name, content in extra:
        (folder / name).write_bytes(content)
        entries.append(make_entry(f"{folder.name}/{name}", content))
    (folder / "RECORD").write_bytes(render_record(sorted(entries)))  # in pip's order


def _true_entries(
    entries: Sequence[RecordEntry], stage: Path, folder: Path, misrecorded: AbstractSet[str]
) -> List[RecordEntry]:
    """pip copies the rows of the wheel, and adds one without a hash for each file that they leave
    out.

    Here a row without a file goes, and each file has its hash: uninstalling removes nothing outside
    of site-packages that a row without a hash names. RECORD itself, signatures and bytecode have
    none.
    """
    found: Dict[str, RecordEntry] = {}
    for entry in entries:
        path = Path(os.path.normpath(folder.parent / entry.path))
        if stage not in path.parents or not path.is_file():
            continue
        is_signature = path.parent == folder and path.name in ("RECORD", "RECORD.jws", "RECORD.p7s")
        has_no_hash = is_signature or path.suffix == ".pyc"
        is_wrong = entry.path in misrecorded or not entry.hash
        if is_wrong and not has_no_hash:
            entry = make_entry(entry.path, path.read_bytes())
        found[entry.path] = entry
    return list(found.values())
