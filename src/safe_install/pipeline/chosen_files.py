"""The files of the chosen candidates: fetched or built, verified, and offered to pip by
--find-links."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Dict, Sequence, Tuple

from packaging.utils import NormalizedName

from safe_install.errors import BuildFailed, HashMismatch, Refused
from safe_install.index.facts import Catalog
from safe_install.models import (
    Candidate,
    CandidateKind,
    Environment,
)
from safe_install.pipeline.choice import Chooser, TorchSource
from safe_install.pipeline.session import Session, make_folder
from safe_install.pipeline.torch_check import TorchCheck
from safe_install.requirements import normalize_requirements
from safe_install.resolve import decisions
from safe_install.resolve.decisions import Pin, Selection, Wanted
from safe_install.resolve.promises import entries_with_hashes
from safe_install.resolve.request import InstallRequest
from safe_install.resolve.torch_choice import hint_to_let_move
from safe_install.wheels.archive import Artifact
from safe_install.wheels.placeholder import make_placeholder

if TYPE_CHECKING:
    from safe_install.index.torch_files import TorchFile


class ChosenFiles:
    """The files of one request, and the --find-links folder in which pip finds them."""

    def __init__(
        self,
        session: Session,
        wanted: Wanted,
        catalog: Catalog,
        chooser: Chooser,
        torch_source: TorchSource,
        torch_check: TorchCheck,
    ) -> None:
        self._session, self._wanted, self._torch_check = session, wanted, torch_check
        self._request, self._reporter = session.request, session.world.reporter
        self._catalog, self._chooser, self._torch_source = catalog, chooser, torch_source
        self.folder = make_folder(session.work / "links")  # for --find-links
        self.artifacts: Dict[NormalizedName, Artifact] = {}

    def prefetch(self, candidates: Sequence[Candidate]) -> None:
        """Fetch the files of several candidates at the same time, before `obtain` is called for
        each."""
        with self._session.timings.stage("fetch"):
            self._chooser.prefetch(candidates)

    def obtain(self, candidate: Candidate, selection: Selection) -> Selection:
        """The selection with the verified file of a candidate; with an empty wheel (placeholder)
        where it is built later."""
        is_source = candidate.kind is CandidateKind.SDIST
        if is_source and (self._request.own.dry_run or selection.coming_torch is not None):
            return self._add_placeholder(candidate, selection)
        return self.fetch_or_build(candidate, selection, selection.planned)

    def _add_placeholder(self, candidate: Candidate, selection: Selection) -> Selection:
        """The selection with an empty wheel for a candidate. A dry run builds nothing; and an
        extension for a new torch can only be built after that torch was planned."""
        try:
            self._chooser.check_build(candidate, selection.planned)
        except Refused as error:
            if self._may_do_without_gpu(selection):
                error.hint += " Where no GPU is meant to compute: --accelerator cpu."
            error.hint = self._with_ways_out(error.hint, candidate, selection)
            raise
        path = make_placeholder(
            self.folder, candidate.name, candidate.version, requires=candidate.requires
        )
        url = path.absolute().as_uri()
        return decisions.add_pin(
            selection, Pin(candidate, url, str(candidate.version), is_placeholder=True)
        )

    def _with_ways_out(self, hint: str, candidate: Candidate, selection: Selection) -> str:
        """A hint, with how torch may move without an extension that would go along."""
        if candidate.name not in selection.carried:
            return hint
        may_keep = self._torch_check.may_keep(selection.planned.torch)
        return hint_to_let_move(hint, [candidate.name], may_keep=may_keep)

    def _may_do_without_gpu(self, selection: Selection) -> bool:
        """Is a CUDA build of torch planned for a machine without a driver, though no accelerator
        was named?"""
        coming = selection.coming_torch
        is_unasked = not self._wanted.torch.accelerator and selection.here.driver is None
        return coming is not None and coming.cuda is not None and is_unasked

    def fetch_or_build(
        self,
        candidate: Candidate,
        selection: Selection,
        environment: Environment,
        *,
        torch_file: str = "",
    ) -> Selection:
        """The selection with the verified file of a candidate: fetched, or built in `environment`.
        `torch_file`: the planned wheel of torch that it is built for; "" for the installed
        torch."""
        is_source = candidate.kind is CandidateKind.SDIST
        if is_source and self._request.config_settings_of(candidate.name, is_requested=False):
            self._reporter.warn(
                f"{candidate.name}: config settings are not passed to the build of an extension: "
                "set the variables that its setup.py reads"
            )
        candidate, artifact = self._obtain(candidate, selection, environment)
        is_here = decisions.stays(
            candidate.name, str(artifact.version), selection, self._wanted, self._catalog
        )
        if is_here and not torch_file:
            # The file name has a local version and METADATA has none: this version is installed.
            return selection
        self.artifacts[candidate.name] = artifact
        pin = Pin(
            candidate,
            self._link_to(artifact),
            str(artifact.version),
            artifact.sha256,
            tuple(artifact.requires_dist),
            torch_file=torch_file,
        )
        return decisions.add_pin(selection, pin)

    def offer_torch(self, selection: Selection) -> Selection:
        """The selection with the files of a torch that is on no index of pip, offered to pip."""
        for file in selection.torch_choice.files:
            if file.candidate.name in selection.torch_pins:
                continue
            pin = self._offer_file(file, selection)
            shown = {**selection.torch_pins, pin.name: pin}
            accelerator, interpreter = (
                file.candidate.built_for.accelerator or "",
                selection.here.interpreter,
            )
            for compiler in self._torch_source.find_compilers(
                pin.requires, accelerator, interpreter
            ):
                beside = self._offer_file(compiler, selection)
                shown[beside.name] = beside
            selection = dataclasses.replace(selection, torch_pins=shown)
        return selection

    def _obtain(
        self, candidate: Candidate, selection: Selection, environment: Environment
    ) -> Tuple[Candidate, Artifact]:
        """The wheel of a candidate, with its hashes compared. A build that fails names the ways out
        of it."""
        is_promised = bool(entries_with_hashes(candidate.name, self._request, selection.here))
        with self._session.timings.stage("fetch"):
            try:
                candidate, artifact = self._chooser.obtain(
                    candidate, environment, is_promised=is_promised
                )
            except BuildFailed as error:
                error.hint = self._with_ways_out(error.hint, candidate, selection)
                raise
            check_hashes(candidate, artifact, self._request, self._session.environment)
        return candidate, artifact

    def _offer_placeholder(self, candidate: Candidate, metadata: str) -> Pin:
        """Offer an empty wheel with this METADATA to pip."""
        path = make_placeholder(
            self.folder,
            candidate.name,
            candidate.version,
            metadata=metadata,
            filename=candidate.link.filename,
        )
        return Pin(
            candidate,
            path.absolute().as_uri(),
            str(candidate.version),
            candidate.link.sha256,
            candidate.requires,
            is_placeholder=True,
        )

    def _offer_file(self, file: TorchFile, selection: Selection) -> Pin:
        """Offer a wheel to pip: an empty one with the METADATA of the file, so that pip can plan
        before the file is fetched. The file itself is fetched where its page lacks its METADATA or
        its hash, or where a hash was given."""
        candidate = file.candidate
        is_promised = bool(entries_with_hashes(candidate.name, self._request, selection.here))
        if (
            file.metadata
            and candidate.link.sha256
            and not is_promised
            and not self._request.require_hashes
        ):
            return self._offer_placeholder(candidate, file.metadata)
        with self._session.timings.stage("fetch"):
            candidate, artifact = self._chooser.obtain(
                candidate, selection.planned, is_promised=is_promised
            )
            check_hashes(candidate, artifact, self._request, self._session.environment)
        # A build may fetch it again: then it has to be the same file.
        requires = normalize_requirements(artifact.requires_dist)
        candidate = dataclasses.replace(candidate, requires=requires)
        self.artifacts[candidate.name] = artifact
        link = self._link_to(artifact)
        return Pin(
            candidate, link, str(artifact.version), artifact.sha256, tuple(artifact.requires_dist)
        )

    def _link_to(self, artifact: Artifact) -> str:
        """The URL of a wheel in the --find-links folder, where it is linked."""
        link = self.folder / artifact.installable_filename
        if link.is_symlink():
            # files for two torches may have one name:
            # torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl
            link.unlink()
        link.symlink_to(artifact.path.resolve())
        return link.absolute().as_uri()

    def remove_others(self, selection: Selection) -> None:
        """Remove the files of a torch that was not chosen, so that pip does not find them."""
        kept = {pin.url for pin in selection.files}
        for link in self.folder.iterdir():
            if link.absolute().as_uri() not in kept:
                link.unlink()
        for name in set(self.artifacts) - set(selection.pins) - set(selection.torch_pins):
            del self.artifacts[name]


def check_hashes(
    candidate: Candidate, artifact: Artifact, request: InstallRequest, environment: Environment
) -> None:
    """The --hash options of requirements files hold for the files that we choose, too. Errors:
    HashMismatch."""
    if candidate.kind is not CandidateKind.WHEEL:
        return
    for entry in entries_with_hashes(candidate.name, request, environment):
        if f"sha256:{artifact.sha256}" not in entry.hashes:
            raise HashMismatch(
                f"{entry.origin}: {candidate.link.filename} from {candidate.link.url} has "
                "sha256 "
                f"{artifact.sha256}, which is none of the hashes given there",
                hint=f"If that is the file that you want, add --hash=sha256:{artifact.sha256}.",
            )
