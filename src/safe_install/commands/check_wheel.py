"""`safe-install check-wheel FILE...`: would this wheel load here? Its files are read and never
executed."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, TypedDict

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.environment.interpreter import read_torch_dir
from safe_install.errors import Refused, UsageError
from safe_install.models import Environment, Finding, InstallResult, Outcome, Severity, TorchBuild
from safe_install.pipeline.baseline import check_torch_here
from safe_install.pipeline.health_gate import has_errors
from safe_install.pipeline.session import error_context, probe_environment
from safe_install.ports import Timings, World
from safe_install.requirements import applies
from safe_install.resolve.own_options import OwnOptions
from safe_install.torch_family import TORCH, is_guarded
from safe_install.wheels.abi import ObjectFacts, ObjectVerdict, cuda_major_of, open_findings
from safe_install.wheels.archive import Artifact, extract_members, open_wheel
from safe_install.wheels.fetch import find_local_path
from safe_install.wheels.inspection import Inspector, check_objects, demangle, needs_of


class _WheelRow(TypedDict):
    """One wheel, as JSON values."""

    fits: bool
    objects: List[Mapping[str, object]]


def check_wheel(
    world: World, files: Sequence[str], own: OwnOptions, *, torch_dir: Optional[str]
) -> InstallResult:
    """Check wheel files against the installed torch, or an unpacked one. Exit status 0 where all
    fit, else 1.

    Errors: Refused without a torch; UsageError for a missing file; WheelInvalid for an invalid
    wheel.
    """
    timings = Timings()
    with timings.stage("probe"):
        environment, torch, folder = _probe(world, own, torch_dir)
    wheels: Dict[str, _WheelRow] = {}
    findings: List[Finding] = []
    with error_context(environment), timings.stage("check"):
        # A torch that does not run with the declared driver or GPU is refused first.
        unfit = check_torch_here(environment)
        for file in files:
            artifact = open_wheel(_wheel_file(file), verify_members=False)
            said, verdicts = _check(artifact, environment, torch, folder, world)
            said += unfit
            findings += [finding for finding in said if finding not in findings]
            wheels[artifact.path.name] = {
                "fits": not has_errors(said),
                "objects": list(map(_object, verdicts)),
            }
    fits = all(wheel["fits"] for wheel in wheels.values())
    lines = [
        f"{name}: {'fits' if wheel['fits'] else 'does not fit'}" for name, wheel in wheels.items()
    ]
    return InstallResult(
        "check-wheel",
        Outcome.FITS if fits else Outcome.DOES_NOT_FIT,
        0 if fits else 1,
        environment,
        findings=tuple(findings),
        timings=timings.total(),
        message="\n".join(f"{line} torch {torch.runtime_version}" for line in lines),
        details={"wheels": wheels},
    )


def _probe(
    world: World, own: OwnOptions, torch_dir: Optional[str]
) -> Tuple[Environment, TorchBuild, Optional[Path]]:
    """(the environment, the torch to check against, the folder of an unpacked torch or None).
    Errors: Refused."""
    environment = probe_environment(own, world)
    if torch_dir is not None:
        folder, torch = read_torch_dir(Path(torch_dir), environment.interpreter)
        return dataclasses.replace(environment, torch=torch), torch, folder
    if environment.torch is None:
        raise Refused(
            f"torch is not installed for {environment.interpreter.executable}, so there is nothing "
            "to fit",
            hint="Name the right interpreter with --python, or an unpacked torch with --torch-dir.",
        )
    return environment, environment.torch, None


def _wheel_file(written: str) -> Path:
    path = find_local_path(written) or Path(written)
    if path.suffix != ".whl" or not path.is_file():
        problem = "is no wheel" if path.exists() else "is not there"
        raise UsageError(f"{written} {problem}", hint="Name a file that ends in .whl.")
    return path


def _check(
    artifact: Artifact,
    environment: Environment,
    torch: TorchBuild,
    folder: Optional[Path],
    world: World,
) -> Tuple[List[Finding], List[ObjectVerdict]]:
    findings = _check_tags(artifact, environment) if folder is None else []
    findings += _check_requirements(artifact, environment, torch)
    with tempfile.TemporaryDirectory(prefix="safe-install-") as temporary:
        # The files are unpacked below their final paths, as in a stage.
        stage = Path(temporary)
        site = environment.interpreter.scheme.platlib if folder is None else folder.parent
        extract_members(artifact, artifact.native_objects, stage.joinpath(*site.parts[1:]))
        members = {name: str(site / name) for name in artifact.native_objects}
        inspector = Inspector(
            environment,
            torch,
            stage=stage,
            coming=list(members.values()),
            variables=world.environ,
            torch_dir=folder,
        )
        verdicts = inspector.inspect(members, demangle=demangle)
    findings += check_objects(
        artifact.name,
        verdicts,
        torch,
        environment.driver,
        version=str(artifact.version),
        requires=artifact.requires_dist,
    )
    findings += open_findings(artifact.name, verdicts, needs_of(artifact.name, verdicts))
    return findings, verdicts


def _check_tags(artifact: Artifact, environment: Environment) -> List[Finding]:
    interpreter = environment.interpreter
    if artifact.tags.intersection(interpreter.tags):
        return []
    told = ", ".join(sorted(map(str, artifact.tags)))
    detail = f"{artifact.path.name} is for {told}, which Python {interpreter.version} on {interpreter.platform} is not"
    return [Finding("wheel-tag", Severity.ERROR, artifact.name, detail, _OTHER_FILE)]


def _check_requirements(
    artifact: Artifact, environment: Environment, torch: TorchBuild
) -> List[Finding]:
    """Findings on its requirements: on Python, on torch, and on installed companions of torch."""
    interpreter = environment.interpreter
    findings = []
    if artifact.requires_python and not _is_python_fitting(
        artifact.requires_python, interpreter.version
    ):
        detail = f"{artifact.path.name} requires Python {artifact.requires_python}, and here is {interpreter.version}"
        findings.append(
            Finding("requires-python", Severity.ERROR, artifact.name, detail, _OTHER_FILE)
        )
    for requirement in _requirements(artifact, environment):
        here = _version_here(canonicalize_name(requirement.name), environment, torch)
        if here is None or _is_fitting(requirement, here):
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        detail = f"{artifact.path.name} requires {wanted}, and here is {requirement.name} {here}"
        hint = f"Take the version that fits: `safe-install explain {artifact.name}` shows which there is."
        findings.append(Finding("requirement-unmet", Severity.ERROR, artifact.name, detail, hint))
    return findings


_OTHER_FILE = "Take the file for this Python and platform."


def _requirements(artifact: Artifact, environment: Environment) -> Iterator[Requirement]:
    """The requirements that apply here. Invalid ones are skipped: pip will refuse them."""
    for text in artifact.requires_dist:
        try:
            requirement = Requirement(text)
            if applies(requirement, environment.interpreter.markers):
                yield requirement
        except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName):
            continue


def _version_here(
    name: NormalizedName, environment: Environment, torch: TorchBuild
) -> Optional[str]:
    """The installed version of torch or of a companion; None for any other name."""
    if name == TORCH:
        return str(torch.version)
    found = environment.installed.get(name) if is_guarded(name) else None
    return found.version if found is not None else None


def _is_fitting(requirement: Requirement, version: str) -> bool:
    try:
        # packaging before 26 raised this for an invalid version; since then `contains` is False.
        comparable = Version(version)
    except InvalidVersion:
        return True  # a vendor's version, which nobody can compare
    return requirement.specifier.contains(comparable, prereleases=True)


def _is_python_fitting(wanted: str, here: str) -> bool:
    try:
        return SpecifierSet(wanted).contains(here, prereleases=True)
    except InvalidSpecifier:
        return True  # pip ignores it too


def _object(one: ObjectVerdict) -> Mapping[str, object]:
    """One shared object as a JSON value, with every symbol that is missing."""
    facts = one.facts
    return {
        "file": facts.member,
        "verdict": one.outcome.value,
        "reason": one.reason,
        "uses_torch": facts.uses_torch,
        "built_for_torch": list(facts.fingerprint.minors),
        "gpu_code": str(facts.code) if facts.code else "",
        "needs_cuda": next(
            (major for major in map(cuda_major_of, facts.needed) if major is not None), None
        ),
        **_problems(facts),
    }


def _problems(facts: ObjectFacts) -> Mapping[str, object]:
    problems = facts.problems
    libraries = {missing.library for missing in problems.missing}
    versions = {f"{lost.need.version} of {lost.need.library}" for lost in problems.versions}
    symbols = [lost.symbol.name for lost in problems.undefined]
    return {
        "missing_libraries": sorted(libraries),
        "missing_versions": sorted(versions),
        "missing_symbols": [{"symbol": name, "demangled": demangle(name)} for name in symbols],
        "needs_driver": sorted(problems.driver),
    }
