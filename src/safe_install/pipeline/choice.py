"""Chooses the builds of extension projects that fit the installed torch, and obtains their files.

pip cannot tell which of several wheels of one version was built for which torch. Here the wheel
index and our rules decide; a project without a fitting wheel is built from source.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Callable,
    Collection,
    Iterator,
    List,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    Union,
)

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import Refused
from safe_install.folders import NOWHERE
from safe_install.index.catalog import bundled_catalog, load_project
from safe_install.index.facts import Project
from safe_install.models import (
    DEFAULT_BUILD_TIMEOUT,
    BuildTimeout,
    Candidate,
    CandidateKind,
    Environment,
    Interpreter,
    Link,
    TorchBuild,
)
from safe_install.pipeline.choice_text import BUILT_BEFORE, describe_torch
from safe_install.pipeline.client import make_client, named_hosts
from safe_install.pipeline.fetching import Fetcher
from safe_install.ports import World
from safe_install.resolve.pip_settings import Formats
from safe_install.resolve.request import PIP_INDEX, InstallRequest
from safe_install.system.credentials import Credentials
from safe_install.torch_family import is_library_of_torch
from safe_install.wheels.store import WheelStore, read_switches

if TYPE_CHECKING:
    from pathlib import Path

    # Imported where they are needed, to start faster: many commands neither search nor fetch.
    from safe_install.index.finder import Finder
    from safe_install.index.torch_files import Absent, Listing, TorchFile
    from safe_install.index.torch_pages import TorchPages
    from safe_install.resolve.provider import Resolution
    from safe_install.system.pip import PipRunner
    from safe_install.wheels.archive import Artifact
    from safe_install.wheels.recipe import BuildRecipe
    from safe_install.wheels.toolkit import InstallRequirements


@dataclass(frozen=True)
class ChoiceOptions:
    """The options that the choice of extensions depends on."""

    offline: bool = False
    no_build: bool = False
    is_elsewhere: bool = False  # for a machine, or a torch, that is not here
    trusts_facts: bool = False  # a wheel of the bundled facts counts where its host is silent
    pre: bool = False
    formats: Formats = field(default_factory=Formats)  # --only-binary and --no-binary
    require_hashes: bool = False
    index_url: Optional[str] = None
    find_links: Tuple[str, ...] = ()
    own_indexes: Tuple[str, ...] = ()  # all searched indexes except pypi.org
    searches_pypi: bool = True
    no_index: bool = False
    third_party: Tuple[str, ...] = ()  # optional hosts that may be asked
    no_toolkit: bool = False
    build_timeout: BuildTimeout = DEFAULT_BUILD_TIMEOUT
    strict_records: bool = False
    index_options: Tuple[str, ...] = ()  # pip's options on indexes and how to reach them
    dry_run: bool = False  # nothing is unpacked, so the members of a wheel are hashed at once
    pip_cache: Optional[str] = None  # folder of pip's cache


def make_choice_options(request: InstallRequest) -> ChoiceOptions:
    """The part of a request that the choice of extensions depends on."""
    own = request.own
    return ChoiceOptions(
        offline=own.offline,
        no_build=own.no_build,
        is_elsewhere=own.is_elsewhere,
        pre=request.pre,
        formats=request.formats,
        require_hashes=request.require_hashes,
        index_url=request.index_url,
        find_links=request.find_links,
        own_indexes=tuple(url for url in request.searched_indexes if not _is_default_index(url)),
        searches_pypi=any(map(_is_default_index, request.searched_indexes)),
        no_index=request.no_index,
        third_party=own.third_party,
        no_toolkit=own.no_toolkit,
        build_timeout=own.build_timeout,
        strict_records=own.strict_records,
        index_options=request.index_options,
        dry_run=own.dry_run,
        pip_cache=str(NOWHERE) if request.no_cache else request.pip_cache,
    )


def _is_default_index(url: str) -> bool:
    return url.rstrip("/") == PIP_INDEX.rstrip("/")


class Chooser(Protocol):
    """Finds and judges the candidates of extension projects, and obtains the files of the chosen
    ones."""

    def choose(
        self,
        requirements: Sequence[Requirement],
        environment: Environment,
        *,
        constraints: Sequence[Requirement] = (),
        upgrade: Collection[NormalizedName] = (),
        keep_version: Collection[NormalizedName] = (),
        allow_build: bool = True,
    ) -> Resolution:
        """One candidate for each extension that the requirements name or depend on.

        Errors: NoCandidate (exit 10) with every rejection; Refused (exit 11) where torch itself
        would have to change.
        """

    def is_known(
        self,
        requirement: Requirement,
        environment: Environment,
        *,
        constraints: Sequence[Requirement] = (),
    ) -> Optional[bool]:
        """Is there a wheel for the torch of `environment`? No host is asked. None: only a host can
        tell."""

    def prefetch(self, pins: Sequence[Candidate]) -> None:
        """Fetch the files of several pins at the same time, before `obtain` is called for each."""

    def obtain(
        self, pin: Candidate, environment: Environment, *, is_promised: bool = False
    ) -> Tuple[Candidate, Artifact]:
        """The pin as a verified wheel: from the store, fetched, or built. The hashes of its members
        are compared later, when it is unpacked."""

    def check_build(self, pin: Candidate, environment: Environment) -> None:
        """Check whether the pin can be built here. Errors: Refused, as the build itself would
        raise."""

    def is_on_index(self, name: str, filename: str, sha256: str) -> bool:
        """Does the project's page on the package index list the file with this sha256?"""


class TorchSource(Protocol):
    """The builds of torch that are on no package index; `index.torch_pages.TorchPages` is one."""

    def list_torch(self, accelerator: str, interpreter: Interpreter) -> Listing:
        """The builds for an accelerator."""

    def find_torch(self, build: TorchBuild, interpreter: Interpreter) -> Union[TorchFile, Absent]:
        """The wheel of a build."""

    def find_compilers(
        self, requires: Sequence[str], accelerator: str, interpreter: Interpreter
    ) -> Tuple[TorchFile, ...]:
        """The compiler packages that torch requires (triton), where they are published beside
        torch. `requires`: torch's requirements. Errors: NoCandidate for one that is missing."""


class IndexChooser:
    """The choice by the wheel index, the pages of its hosts and our rules. It is a TorchSource,
    too."""

    def __init__(
        self,
        options: ChoiceOptions,
        world: World,
        credentials: Optional[Credentials] = None,
        *,
        pip: Optional[Callable[[], PipRunner]] = None,
    ) -> None:
        """`credentials`: for the indexes; None: only those in URLs and netrc.
        `pip`: returns the pip that installs what a build needs; None: this chooser never builds."""
        self._options = options
        self._world = world
        self._pip = pip
        self.built: List[NormalizedName] = []  # what was built from source, or tried
        self._store = WheelStore(world.cache_dir, read_switches(world.environ))
        self._http = make_client(
            world,
            offline=options.offline,
            trusted_hosts=named_hosts(options.find_links),
            credentials=credentials,
        )
        self.fetcher = Fetcher(
            self._http,
            world,
            self._redirects_of,
            require_hashes=options.require_hashes,
            pip_cache=options.pip_cache,
        )

    @functools.cached_property
    def torch_pages(self) -> TorchPages:
        """The builds of torch that lie on no package index."""
        from safe_install.index.torch_pages import TorchPages

        options = self._options
        offline = "--offline" if options.offline else "--no-index" if options.no_index else ""
        return TorchPages(
            self._http,
            bundled_catalog().torch,
            offline=offline,
            third_party=options.third_party,
            find_links=options.find_links,
            indexes=options.own_indexes,
        )

    def list_torch(self, accelerator: str, interpreter: Interpreter) -> Listing:
        """As TorchSource says."""
        return self.torch_pages.list_torch(accelerator, interpreter)

    def find_torch(self, build: TorchBuild, interpreter: Interpreter) -> Union[TorchFile, Absent]:
        """As TorchSource says."""
        return self.torch_pages.find_torch(build, interpreter)

    def find_compilers(
        self, requires: Sequence[str], accelerator: str, interpreter: Interpreter
    ) -> Tuple[TorchFile, ...]:
        """As TorchSource says."""
        return self.torch_pages.find_compilers(requires, accelerator, interpreter)

    @functools.cached_property
    def _finder(self) -> Finder:
        return self._make_finder(offline=self._options.offline)

    @functools.cached_property
    def _known(self) -> Finder:
        return self._make_finder(offline=True, only_near=True)

    def _make_finder(self, *, offline: bool, only_near: bool = False) -> Finder:
        from safe_install.index.finder import Finder

        options = self._options
        return Finder(
            http=self._http,
            catalog=bundled_catalog(),
            store=self._find_built,
            offline=offline,
            index_url=options.index_url,
            find_links=options.find_links,
            only_find_links=options.no_index,
            third_party=options.third_party,
            only_near=only_near,
        )

    def choose(
        self,
        requirements: Sequence[Requirement],
        environment: Environment,
        *,
        constraints: Sequence[Requirement] = (),
        upgrade: Collection[NormalizedName] = (),
        keep_version: Collection[NormalizedName] = (),
        allow_build: bool = True,
    ) -> Resolution:
        """As Chooser says."""
        from safe_install.resolve.provider import resolve

        resolution = resolve(
            requirements,
            environment,
            find=self._finder.find,
            catalog=bundled_catalog(),
            constraints=constraints,
            pre=self._options.pre,
            allow_build=allow_build and not self._options.no_build,
            is_elsewhere=self._options.is_elsewhere,
            trusts_facts=self._options.trusts_facts,
            formats=self._options.formats,
            upgrade=frozenset(upgrade),
            keep_version=frozenset(keep_version),
        )
        pins = tuple(self._mark_kept_build(pin, environment) for pin in resolution.pins)
        return dataclasses.replace(resolution, pins=pins)

    def _mark_kept_build(self, pin: Candidate, environment: Environment) -> Candidate:
        """A source distribution, marked where the store may have its build. This matters only for a
        torch that is not installed yet; for the installed one the store's wheels were
        candidates."""
        torch = environment.torch
        is_coming = torch is not None and torch.folder is None
        if pin.kind is not CandidateKind.SDIST or not is_coming:
            return pin
        may_be_kept = self._store.may_have(pin.name, pin.version, environment)
        return dataclasses.replace(pin, may_be_kept=may_be_kept)

    def is_known(
        self,
        requirement: Requirement,
        environment: Environment,
        *,
        constraints: Sequence[Requirement] = (),
    ) -> Optional[bool]:
        """As Chooser says: from our own store, the --find-links folders and the bundled facts."""
        from safe_install.resolve.provider import is_known

        known = is_known(
            requirement,
            environment,
            find=self._known.find,
            catalog=bundled_catalog(),
            constraints=constraints,
            pre=self._options.pre,
        )
        return None if known is False and self._has_own_places else known

    @property
    def _has_own_places(self) -> bool:
        """Was an index or a --find-links page named? The bundled facts do not know what it
        lists."""
        index = self._options.index_url or PIP_INDEX
        return not _is_default_index(index) or bool(self._options.find_links)

    def prefetch(self, pins: Sequence[Candidate]) -> None:
        """As Chooser says."""
        from safe_install.index.local_pages import is_local

        wheels = [pin for pin in pins if pin.kind is CandidateKind.WHEEL]
        far = [pin for pin in wheels if not is_local(pin.link.url)]
        if len(far) > 1:
            # `obtain` compares the hashes that were given.
            wanted = [self.fetcher.want(pin, is_promised=True) for pin in far]
            self.fetcher.fetch_all(wanted)

    def obtain(
        self, pin: Candidate, environment: Environment, *, is_promised: bool = False
    ) -> Tuple[Candidate, Artifact]:
        """As Chooser says. `is_promised`: a hash was given for it; the caller compares it."""
        from safe_install.wheels.archive import open_wheel
        from safe_install.wheels.fetch import find_local_path

        if pin.kind is CandidateKind.SDIST:
            pin = self._find_kept(pin, environment) or self._build(pin, environment)
        path = self.fetcher.fetch(self.fetcher.want(pin, is_promised=is_promised))
        # A link to a local file is only in a folder or on a page that the command names.
        is_local = find_local_path(pin.link.url) is not None
        has_promise = is_promised or is_local or pin.link.sha256 is not None
        artifact = open_wheel(
            path,
            sha256=pin.link.sha256,
            verify_members=self._options.dry_run,
            is_promised=lambda: has_promise,
            strict_records=self._options.strict_records,
        )
        if artifact.name != pin.name:
            raise Refused(
                f"{pin.link.url} holds {artifact.name} and not {pin.name}",
                hint="The page that lists it is wrong or hostile; nothing was changed.",
            )
        return pin, artifact

    def _find_built(self, name: NormalizedName, environment: Environment) -> Iterator[Candidate]:
        """The wheels in the store, with the requirements that their metadata leaves out."""
        hidden = load_project(name).requires
        for built in self._store.find(name, environment):
            yield dataclasses.replace(built, requires=hidden)

    def is_on_index(self, name: str, filename: str, sha256: str) -> bool:
        """As Chooser says."""
        files = [(link.filename, link.sha256) for link in self.read_index(name)]
        return (filename, sha256) in files

    def read_index(self, name: str) -> Tuple[Link, ...]:
        """The files that the project's page on the package index lists; none if it is silent."""
        return self._finder.read_index_page(canonicalize_name(name))

    def _redirects_of(self, pin: Candidate) -> Tuple[str, ...]:
        if is_library_of_torch(pin.name):
            return self.torch_pages.redirects_of(pin)
        return self._finder.redirects_of(pin)

    def check_build(self, pin: Candidate, environment: Environment) -> None:
        """As Chooser says; nothing is kept. A pin whose build may be in the store is not
        checked."""
        if pin.may_be_kept:
            return
        from safe_install.wheels.build import check_build

        check_build(
            _recipe(load_project(pin.name), pin),
            environment,
            self._world.cache_dir,
            variables=self._world.environ,
            forbidden_by=self._toolkit_forbidden_by(),
            install_toolkit=self._install_target(only_wheels=True, dry_run=True),
        )

    def _install_target(
        self, *, only_wheels: bool = False, offline: bool = False, dry_run: bool = False
    ) -> InstallRequirements:
        """pip's `install --target`, which installs what a build needs into a folder."""
        if self._pip is None:
            raise ValueError("a chooser without pip builds nothing")
        return functools.partial(
            self._pip().install_target,
            only_wheels=only_wheels,
            offline=offline,
            dry_run=dry_run,
            options=self._options.index_options,
        )

    def _toolkit_forbidden_by(self) -> str:
        """The option that forbids fetching a CUDA toolkit; "" where none does."""
        if self._options.no_toolkit:
            return "--no-toolkit"
        return "--offline" if self._options.offline else ""

    def _find_kept(self, pin: Candidate, environment: Environment) -> Optional[Candidate]:
        """The wheel that was built before from this source, for this torch; None where there is
        none."""
        for built in self._find_built(pin.name, environment):
            if built.version == pin.version:
                self._world.reporter.note(f"{pin.name} {pin.version}: {BUILT_BEFORE}")
                return built
        return None

    def _build(self, pin: Candidate, environment: Environment) -> Candidate:
        from safe_install.wheels.build import build_wheel, plan_here

        self.built.append(pin.name)
        self._world.reporter.note(
            f"No wheel of {pin.name} for {describe_torch(environment)} was found: building "
            f"{pin.version} from "
            "source (this runs the project's own build code)"
        )
        recipe, forbidden_by = _recipe(load_project(pin.name), pin), self._toolkit_forbidden_by()
        # Fail before the source is fetched where a compiler is missing.
        plan_here(
            recipe,
            environment,
            self._world.cache_dir,
            variables=self._world.environ,
            forbidden_by=forbidden_by,
        )
        path = build_wheel(
            self.fetcher.fetch(self.fetcher.want(pin)),
            recipe=recipe,
            environment=environment,
            store=self._store,
            install_tools=self._install_target(offline=self._options.offline),
            reporter=self._world.reporter,
            variables=self._world.environ,
            timeout=self._options.build_timeout,
            install_toolkit=self._install_target(only_wheels=True),
            forbidden_by=forbidden_by,
        )
        return self._as_built(pin, path, environment)

    def _as_built(self, pin: Candidate, path: Path, environment: Environment) -> Candidate:
        """The pin as the wheel that was built from it."""
        for built in self._find_built(pin.name, environment):
            if built.version == pin.version and built.link.url == path.as_uri():
                return built
        link = dataclasses.replace(
            pin.link, url=path.as_uri(), filename=path.name, sha256=None, size=None
        )
        return dataclasses.replace(pin, kind=CandidateKind.BUILT, link=link)


def _recipe(project: Project, pin: Candidate) -> BuildRecipe:
    from safe_install.wheels.recipe import BuildRecipe

    known = project.recipe
    if known is None:
        return BuildRecipe(pin.name, pin.version)
    return BuildRecipe(
        pin.name,
        pin.version,
        build_requires=known.requires,
        variables=known.env,
        cuda_variables={"FORCE_CUDA": "1"} if known.force_cuda else {},
        is_extension=known.extension,
    )
