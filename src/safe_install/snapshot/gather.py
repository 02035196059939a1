"""Makes a snapshot of an environment: each distribution with its exact source, as far as this
machine and the package indexes know it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Collection, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.environment.interpreter import read_dist_info
from safe_install.errors import Refused, SafeInstallError
from safe_install.index.catalog import bundled_catalog, known_projects
from safe_install.index.finder import Finder
from safe_install.models import (
    Driver,
    Environment,
    Finding,
    InstalledDistribution,
    Interpreter,
    TorchBuild,
)
from safe_install.pipeline.client import make_client, named_hosts
from safe_install.ports import World
from safe_install.snapshot.difference import find_required
from safe_install.snapshot.files import (
    find_built,
    find_first_seen,
    find_named,
    read_installed_files,
)
from safe_install.snapshot.index_search import (
    Answer,
    Indexes,
    NoIndexAnswered,
    Question,
    folders_of,
    indexes_of,
)
from safe_install.snapshot.notes import make_notes
from safe_install.snapshot.past import Change, versions_after
from safe_install.snapshot.sources import (
    Listed,
    PastFile,
    find_known,
    find_past,
    may_be_named,
    read_past_file,
    source_of_direct_url,
    source_of_past,
    unknown_because,
)
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    RecordedDistribution,
    Snapshot,
    Source,
    TorchFacts,
    UnknownSource,
    UrlSource,
)
from safe_install.system.credentials import Credentials
from safe_install.system.pip_configuration import read_configuration
from safe_install.tags import accelerator_of_version
from safe_install.transaction.history import HistoryEntry, read_history
from safe_install.transaction.kept_files import find_replaced
from safe_install.transaction.kept_sources import read_kept_sources
from safe_install.wheels.store import WheelStore

Distributions = Mapping[NormalizedName, InstalledDistribution]
PastFiles = Mapping[NormalizedName, Sequence[PastFile]]


@dataclass(frozen=True)
class Gathered:
    """A snapshot, and findings on it."""

    snapshot: Snapshot
    findings: Tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _Found:
    """A distribution and its source."""

    distribution: InstalledDistribution
    source: Optional[Source]  # None: this machine does not know it
    is_by_name: bool = False  # only name, version and wheel tags of the file were compared


def gather(
    world: World, environment: Environment, *, offline: bool = False, at: Optional[str] = None
) -> Gathered:
    """The environment as it is, or as it was after the past change `at`. `offline`: package indexes
    are not asked. Errors: Refused if there was no such change."""
    interpreter = environment.interpreter
    history = _read_history(environment)
    distributions, foreign = _distributions_at(environment, history, at)
    settings = read_configuration(interpreter.prefix, world.environ, "install")
    indexes = indexes_of(settings)
    past = _past_files(history, at, read_kept_sources(interpreter.prefix))
    sources = _LocalSources(world, environment, indexes, past)
    found = [sources.find(one) for one in distributions.values()]
    http = make_client(
        world,
        offline=offline,
        trusted_hosts=named_hosts(indexes),
        credentials=Credentials(index_urls=indexes),
    )
    found = _ask_indexes(found, Indexes(http, indexes, folders_of(settings)))
    requested = [one.name for one in distributions.values() if one.requested]
    required = find_required(requested, distributions, interpreter.markers)
    snapshot = make_snapshot(environment, [_record(one, required) for one in found])
    by_name = sorted(one.distribution.name for one in found if one.is_by_name)
    twice = find_recorded_twice(interpreter.scheme.purelib) if at is None else ()
    notes = make_notes(snapshot, by_name=by_name, foreign=foreign, twice=twice)
    return Gathered(snapshot, notes)


def find_recorded_twice(site: Path) -> Tuple[str, ...]:
    """The distributions with several dist-info folders, of which only one counts."""
    folders = site.glob("*.dist-info")
    counted = Counter(canonicalize_name(folder.name.split("-")[0]) for folder in folders)
    return tuple(sorted(name for name, count in counted.items() if count > 1))


def make_snapshot(
    environment: Environment, distributions: Iterable[RecordedDistribution]
) -> Snapshot:
    """The snapshot of an environment with these distributions."""
    interpreter = environment.interpreter
    ordered = tuple(sorted(distributions, key=lambda one: one.name))
    minor = ".".join(interpreter.version.split(".")[:2])
    return Snapshot(
        python=interpreter.version,
        platform=interpreter.platform,
        libc=interpreter.libc,
        distributions=ordered,
        torch=_torch_facts(environment.torch, ordered),
        driver=_driver_version(environment.driver),
        gpus=_gpus(environment.driver),
        markers=interpreter.markers,
        requires_python=f"=={minor}.*",
        environments=(marker_of(interpreter),),
    )


def marker_of(interpreter: Interpreter) -> str:
    """The marker of machines like this one, which need the same wheels."""
    names = ("sys_platform", "platform_machine", "platform_python_implementation")
    parts = [f"{name} == '{interpreter.markers[name]}'" for name in names]
    return " and ".join(parts)


def _torch_facts(
    torch: Optional[TorchBuild], distributions: Sequence[RecordedDistribution]
) -> Optional[TorchFacts]:
    """The facts about torch; of a past torch only the version is known."""
    recorded = next((one for one in distributions if one.name == "torch"), None)
    if recorded is None:
        return None
    if torch is None or str(torch.version) != recorded.version:
        return TorchFacts(recorded.version, accelerator_of_version(recorded.version) or "")
    return TorchFacts(torch.runtime_version, torch.accelerator, torch.cuda or "")


def _driver_version(driver: Optional[Driver]) -> str:
    return "" if driver is None else driver.version or ""


def _gpus(driver: Optional[Driver]) -> Tuple[str, ...]:
    devices = () if driver is None else driver.devices
    return tuple(f"{one.name} ({one.compute_capability})" for one in devices)


# --- the past -------------------------------------------------------------------------------------


def _read_history(environment: Environment) -> Tuple[HistoryEntry, ...]:
    """The history, newest first; empty if it cannot be read."""
    try:
        return read_history(environment.interpreter.prefix)
    except (SafeInstallError, OSError):
        return ()


def _distributions_at(
    environment: Environment, history: Sequence[HistoryEntry], at: Optional[str]
) -> Tuple[Distributions, Tuple[NormalizedName, ...]]:
    """The distributions that were installed after the change `at`, and those that another program
    has changed since."""
    if at is None:
        return environment.installed, ()
    later = _later_than(history, at, environment.interpreter.prefix)
    today = {name: one.version for name, one in environment.installed.items()}
    changes = [Change(entry.id, entry.steps) for entry in later]
    past = versions_after(today, changes)
    replaced = _read_replaced(environment.interpreter.prefix, later)
    found: Dict[NormalizedName, InstalledDistribution] = {}
    for name, version in past.versions.items():
        installed = environment.installed.get(name)
        if installed is None or installed.version != version:
            installed = replaced.get((name, version))
        found[name] = installed or _without_metadata(name, version, environment)
    return found, past.foreign


def _later_than(history: Sequence[HistoryEntry], at: str, prefix: Path) -> List[HistoryEntry]:
    """The changes after `at`, newest first. Errors: Refused if there is no such change, or a
    later one cannot be read."""
    identifiers = [entry.id for entry in history]
    if at not in identifiers:
        raise Refused(
            f"{prefix} has no transaction {at}",
            hint="safe-install history lists those that are kept.",
        )
    later = list(history[: identifiers.index(at)])
    for entry in later:
        if entry.problem is not None:
            raise Refused(
                f"transaction {entry.id} cannot be read: {entry.problem}",
                hint="What was there before it is not known; choose a later one.",
            )
    return later


def _read_replaced(
    prefix: Path, later: Sequence[HistoryEntry]
) -> Mapping[Tuple[NormalizedName, str], InstalledDistribution]:
    """(name, version) -> distribution, for those that these changes replaced, and whose metadata is
    kept for undo."""
    found: Dict[Tuple[NormalizedName, str], InstalledDistribution] = {}
    for entry in later:
        for folder in find_replaced(prefix, entry.id, ".dist-info"):
            distribution = read_dist_info(folder)
            if distribution is not None:
                found.setdefault((distribution.name, distribution.version), distribution)
    return found


def _without_metadata(
    name: NormalizedName, version: str, environment: Environment
) -> InstalledDistribution:
    """A distribution of which only name and version are known."""
    site = environment.interpreter.scheme.purelib
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    return InstalledDistribution(name, version, folder, site, written_name=name)


def _past_files(
    history: Sequence[HistoryEntry], at: Optional[str], kept: Sequence[Mapping[str, object]]
) -> PastFiles:
    """Distribution -> the files that our changes installed, newest first; without changes that are
    later than `at`. `kept`: the rows of changes that the history no longer has."""
    rows: List[Mapping[str, object]] = []
    is_later = at is not None
    for entry in history:
        is_later = is_later and entry.id != at
        if not is_later:
            rows += entry.steps
    found: Dict[NormalizedName, List[PastFile]] = {}
    for row in (*rows, *kept):
        past = read_past_file(row)
        if past is not None:
            found.setdefault(canonicalize_name(str(row["name"])), []).append(past)
    return found


# --- sources that this machine knows --------------------------------------------------------------


class _LocalSources:
    """Finds sources without any network: in metadata, the history, our store, and the wheel
    index."""

    def __init__(
        self, world: World, environment: Environment, indexes: Sequence[str], past: PastFiles
    ) -> None:
        self._environment = environment
        self._indexes = indexes
        self._past = past
        self._cache = world.cache_dir
        self._store = WheelStore(world.cache_dir)
        self._http = make_client(world, offline=True)

    def find(self, distribution: InstalledDistribution) -> _Found:
        """The source of a distribution; None if only a package index may know it."""
        if not may_be_named(distribution):
            return _Found(distribution, unknown_because(distribution, ""))
        source = self._find_in_metadata(distribution) or self._find_in_history(distribution)
        source = source or find_built(distribution, self._environment, self._store)
        source = source or self._find_in_wheel_index(distribution)
        return _Found(distribution, source)

    def _find_in_metadata(self, distribution: InstalledDistribution) -> Optional[Source]:
        if distribution.direct_url is None:
            if not distribution.editable:
                return None
            # An .egg-link of setuptools: the metadata lies in the source folder.
            return DirectorySource(str(distribution.metadata_path.parent), is_editable=True)
        source = source_of_direct_url(distribution.direct_url)
        if isinstance(source, UrlSource):
            return self._add_hash_and_size(source, distribution)
        if isinstance(source, FileSource):
            is_built_here = (self._cache / "built") in Path(source.path).parents
            return self._check_exists(replace(source, is_built_here=is_built_here))
        if isinstance(source, UnknownSource):
            return find_named(distribution) or source
        return source

    def _add_hash_and_size(
        self, source: UrlSource, distribution: InstalledDistribution
    ) -> UrlSource:
        """The source with the hash and the size if our history or an earlier fetch has them."""
        past = find_past(self._past.get(distribution.name, ()), distribution)
        if past is not None and past.url == source.url:
            source = replace(source, sha256=source.sha256 or past.sha256, size=past.size)
        if source.sha256 is None:
            source = replace(source, sha256=_first_seen(source.url))
        return source

    def _find_in_history(self, distribution: InstalledDistribution) -> Optional[Source]:
        past = find_past(self._past.get(distribution.name, ()), distribution)
        if past is None:
            return None
        source = source_of_past(past, self._indexes)
        return self._check_exists(source) if isinstance(source, FileSource) else source

    def _check_exists(self, source: FileSource) -> Source:
        """The source with its size; an UnknownSource where the file no longer exists."""
        path = Path(source.path)
        if not path.is_file():
            reason = f"the file that it came from is gone: {path}"
            return UnknownSource(reason, source.sha256)
        return source if source.size else replace(source, size=path.stat().st_size)

    def _find_in_wheel_index(self, distribution: InstalledDistribution) -> Optional[Source]:
        """The wheel on a wheel host, for a project of the bundled wheel index."""
        if distribution.name not in known_projects() or self._environment.torch is None:
            return None
        finder = Finder(http=self._http, catalog=bundled_catalog(), offline=True)
        files = read_installed_files(distribution.metadata_path)
        candidates = finder.find(distribution.name, self._environment).candidates
        source = find_known(distribution.version, files, candidates)
        if source is not None and source.sha256 is None:
            return replace(source, sha256=_first_seen(source.url))
        return source


def _first_seen(url: str) -> Optional[str]:
    try:
        return find_first_seen(url)
    except SafeInstallError:
        return None  # the file is damaged


# --- sources that package indexes know ------------------------------------------------------------


def _ask_indexes(found: Sequence[_Found], indexes: Indexes) -> List[_Found]:
    """The same list, completed by package indexes: unknown sources, and sources of local files,
    which other machines do not have."""
    questions = [_make_question(one) for one in found]
    answers = iter(indexes.ask([one for one in questions if one is not None]))
    completed: List[_Found] = []
    for one, question in zip(found, questions):
        completed.append(one if question is None else _with_answer(one, next(answers)))
    return completed


def _make_question(found: _Found) -> Optional[Question]:
    """The question to the indexes; None if none is needed."""
    distribution, source = found.distribution, found.source
    if not may_be_named(distribution):
        return None
    is_file = isinstance(source, FileSource) and not source.is_built_here
    if not is_file and source is not None and not isinstance(source, UnknownSource):
        return None
    files = read_installed_files(distribution.metadata_path)
    sha256 = source.sha256 if isinstance(source, (FileSource, UnknownSource)) else ""
    return Question(distribution.name, distribution.version, files, sha256)


def _with_answer(found: _Found, answer: Answer) -> _Found:
    """The answer as the source. A source found before is replaced only by the same file."""
    if found.source is not None and not _is_same_file(answer):
        return found
    if isinstance(answer, Listed):
        return replace(found, source=answer.source, is_by_name=not answer.is_compared)
    silence = answer.reason if isinstance(answer, NoIndexAnswered) else ""
    return replace(found, source=unknown_because(found.distribution, silence))


def _is_same_file(answer: Answer) -> bool:
    """Does an index have the same file, compared by a hash?"""
    if not isinstance(answer, Listed) or isinstance(answer.source, FileSource):
        return False
    return answer.is_compared


def _record(found: _Found, required: Collection[NormalizedName]) -> RecordedDistribution:
    """`required`: the requested distributions and their requirements."""
    distribution = found.distribution
    return RecordedDistribution(
        name=distribution.name,
        version=distribution.version,
        source=found.source or unknown_because(distribution, ""),
        written_name=distribution.written_name,
        is_requested=distribution.requested,
        is_unrequired=distribution.name not in required,
    )
