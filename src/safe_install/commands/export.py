"""`safe-install export`: writes the environment down so that it can be recreated."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from safe_install.errors import Refused, UsageError, hint_for_oserror
from safe_install.models import InstallResult, Interpreter, Outcome
from safe_install.pipeline.session import error_context, probe_named, progress_task
from safe_install.ports import Timings, World
from safe_install.snapshot.conda_file import ChannelPackage
from safe_install.snapshot.formats import (
    NAMES,
    Format,
    format_of_filename,
    format_of_name,
    render_snapshot,
)
from safe_install.snapshot.gather import gather
from safe_install.snapshot.local_files import copy_files_beside, name_folders_below
from safe_install.snapshot.notes import note_filename, note_local, note_pip
from safe_install.snapshot.values import Snapshot, UnknownSource
from safe_install.system.atomic_write import write_output

STDOUT = "-"
KINDS = {
    "IndexSource": "package index",
    "UrlSource": "address",
    "FileSource": "file",
    "DirectorySource": "folder",
    "RepositorySource": "repository",
    "UnknownSource": "not known",
}


def export(
    world: World,
    *,
    python: Optional[str],
    format_name: Optional[str] = None,
    output: Optional[str] = None,
    at: Optional[str] = None,
    wheels: Optional[str] = None,
    offline: bool = False,
) -> InstallResult:
    """Write a document with every distribution and its exact source.

    Errors: UsageError for an impossible format or file; Refused where the change `at` is not known,
    or a file for `wheels` has changed.
    """
    timings = Timings()
    target = None if output in (None, STDOUT) else Path(str(output))
    wanted = choose_format(format_name, target)
    _check_target(target, wanted)
    with timings.stage("probe"):
        environment = probe_named(world, python)
    with error_context(environment):
        with timings.stage("sources"), progress_task("look up sources", world):
            gathered = gather(world, environment, offline=offline, at=at)
        document = (target.parent if target is not None else Path()).absolute()
        snapshot = name_folders_below(gathered.snapshot, document)
        if wheels is not None:
            with progress_task("copy files", world):  # a torch has gigabytes
                snapshot = _with_wheels(snapshot, Path(wheels), document)
        text = render_snapshot(snapshot, wanted, read_conda_packages(environment.interpreter))
        if target is not None:
            _write(target, text)
    findings = (*gathered.findings, *note_local(snapshot))
    if wanted is Format.PYLOCK:
        findings += note_pip(snapshot)
        findings += () if target is None else note_filename(target.name)
    return InstallResult(
        "export",
        Outcome.EXPORTED,
        0,
        environment,
        findings=findings,
        timings=timings.total(),
        message="" if target is None else _describe(target, snapshot),
        details=_details(snapshot, wanted, target, text),
    )


def choose_format(name: Optional[str], target: Optional[Path]) -> Format:
    """The named format, else that of the file's name, else a lock file. Errors: UsageError."""
    if name is not None:
        found = format_of_name(name)
        if found is None:
            raise UsageError(f"--format {name}: no such format", hint=f"Write {', '.join(NAMES)}.")
        return found
    by_name = None if target is None else format_of_filename(target.name)
    return by_name or Format.PYLOCK


def _check_target(target: Optional[Path], wanted: Format) -> None:
    """Check the file, before any index is asked. Errors: UsageError."""
    if target is None:
        return
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(
            f"--output {target}: no file can be written there",
            hint="Name a file in a folder that is there.",
        )
    if wanted is Format.UV and target.exists():
        raise UsageError(
            f"--output {target} is there already, and would be replaced",
            hint="Write to another file, and take over what you need of it.",
        )


def _with_wheels(snapshot: Snapshot, wheels: Path, document: Path) -> Snapshot:
    try:
        return copy_files_beside(snapshot, wheels.absolute(), document)
    except OSError as error:
        raise Refused(
            f"--wheels {wheels}: {error.strerror or error}", hint=hint_for_oserror(error)
        ) from error


def _write(target: Path, text: str) -> None:
    try:
        write_output(target, text.encode("utf-8"), mode=0o644)
    except OSError as error:
        raise Refused(
            f"{target} cannot be written: {error.strerror or error}", hint=hint_for_oserror(error)
        ) from error


def _describe(target: Path, snapshot: Snapshot) -> str:
    """`Wrote pylock.toml: 12 distributions, 1 of them not known where from.`"""
    count = len(snapshot.distributions)
    unknown = sum(isinstance(one.source, UnknownSource) for one in snapshot.distributions)
    rest = f", {unknown} of them not known where from" if unknown else ""
    return f"Wrote {target}: {count} distribution{'' if count == 1 else 's'}{rest}."


def _details(
    snapshot: Snapshot, wanted: Format, target: Optional[Path], text: str
) -> Dict[str, object]:
    rows: List[Dict[str, object]] = []
    for one in snapshot.distributions:
        row = {
            "name": one.name,
            "version": one.version,
            "requested": one.is_requested,
            "source": KINDS[type(one.source).__name__],
        }
        rows.append({**row, **one.source.__dict__})
    counted: Counter[str] = Counter(str(row["source"]) for row in rows)
    return {
        "format": wanted.value,
        "file": None if target is None else str(target),
        "document": text if target is None else None,
        "distributions": rows,
        "sources": dict(sorted(counted.items())),
    }


def read_conda_packages(interpreter: Interpreter) -> Tuple[ChannelPackage, ...]:
    """conda's records of its packages; none in an environment that conda did not make."""
    found: List[ChannelPackage] = []
    for path in sorted(interpreter.prefix.glob("conda-meta/*.json")):
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            name, version, build = value["name"], value["version"], value["build"]
            channel = str(value.get("channel", ""))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append(ChannelPackage(str(name), str(version), str(build), _channel_name(channel)))
    return tuple(found)


def _channel_name(channel: str) -> str:
    """`https://conda.anaconda.org/conda-forge/linux-64` -> `conda-forge`."""
    known = "https://conda.anaconda.org/"
    if channel.startswith(known):
        return channel[len(known) :].split("/")[0]
    head, _, platform = channel.rpartition("/")
    return head if platform in ("linux-64", "linux-aarch64", "noarch") else channel
