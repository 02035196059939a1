"""Will the files of a wheel load beside a torch, and compute correctly? Judged from the loader
model, assertions and GPU code.

Symbols alone are not enough: of 7,552 measured pairs 51 had all symbols and crashed in a static
initializer, and one gave wrong numbers without an error; all of them were built for another minor
of torch (docs/abi.md).
"""

from __future__ import annotations

import enum
import posixpath
import re
from dataclasses import dataclass, field
from typing import (
    Callable,
    Container,
    Dict,
    FrozenSet,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from safe_install.models import Finding, Severity, TorchBuild
from safe_install.wheels.fatbin import DeviceCode
from safe_install.wheels.fingerprint import SAME, Fingerprint
from safe_install.wheels.loader import Problems

_TORCH_LIBRARY = re.compile(r"lib(torch|c10)(_\w+)?\.so$")
# mangled: a name in one of its namespaces
_CXX_OF_TORCH = re.compile(r"^_Z\w*?N[rVK]*(?:2at|3c10|5torch|6caffe2)[\dIL]")
_CUDA_LIBRARY = re.compile(
    r"lib(?:cudart|cublas|cublasLt|cufft|cusparse|cusolver|nvrtc|curand|nvJitLink|nvjpeg)\.so\.(\d+)"
)
# Those of them whose number is CUDA's major version. Others count by themselves: CUDA 12 and 13
# have libcusparse.so.12. auditwheel puts a hash into the name: libcudart.e8e8b82a.so.12.
_WITH_CUDA_MAJOR = re.compile(
    r"lib(?:cudart|cublas|cublasLt|nvrtc|nvJitLink|nvjpeg)(?:[-.]\w+)?\.so\.(\d+)"
)
# back references, literals; the length of a name
_MANGLED_PART = re.compile(r"S[0-9A-Z]*_|T\d*_|L[a-z]n?\d+E|(\d+)")
CUDA_OF_TORCH = ("libc10_cuda.so", "libtorch_cuda.so")
_NUMBER = re.compile(r"\d+")
SHOWN = 3  # symbols that a message names


class LoadOutcome(enum.Enum):
    """The outcome of loading a file beside the torch that will be there."""

    FITS = "fits"
    ANOTHER_TORCH = (
        "another-torch"  # all its symbols are defined, but it was built for another minor
    )
    UNKNOWN = "unknown"
    DOES_NOT_LOAD = "does-not-load"


@dataclass(frozen=True)
class ObjectFacts:
    """The facts that were read from one shared object of a wheel."""

    member: str  # its path in the wheel
    problems: Problems
    uses_torch: bool
    wanted: Tuple[str, ...] = ()  # names of the symbols that it asks for
    fingerprint: Fingerprint = field(default_factory=lambda: Fingerprint(0))
    # share of its assertions in the headers of this torch, where the table does not have it
    share: Optional[float] = None
    code: DeviceCode = field(default_factory=DeviceCode)
    unreadable: str = ""  # why it could not be read
    other_machine: str = ""  # the machine that it is for ("aarch64"), where that is another one
    needed: Tuple[str, ...] = ()  # file names of the libraries that it needs
    # the Python in its name ("cp310"), if it is an extension module
    module_for: Optional[str] = None


class ObjectVerdict(NamedTuple):
    """The verdict on one shared object."""

    facts: ObjectFacts
    outcome: LoadOutcome
    reason: str = ""  # a sentence
    hint: str = ""


@dataclass(frozen=True)
class TorchContext:
    """The environment that the files of a wheel will be loaded in."""

    torch: TorchBuild
    known_minors: FrozenSet[str]  # of torch that the table of assertions knows
    # file names of all shared objects in the environment, and of all that come with it
    libraries: FrozenSet[str]
    libc: str = ""  # "glibc 2.36"
    python: str = ""  # "cp311"

    @property
    def minor(self) -> str:
        """`2.13`."""
        return ".".join(self.torch.runtime_version.partition("+")[0].split(".")[:2])


Demangler = Callable[[str], str]
Needs = Callable[[str], bool]  # is a member of the wheel one that its project cannot do without?


def judge_object(
    facts: ObjectFacts, context: TorchContext, *, demangle: Demangler
) -> ObjectVerdict:
    """The verdict on one shared object beside a torch."""
    if facts.unreadable:
        return ObjectVerdict(
            facts, LoadOutcome.UNKNOWN, f"{facts.member} could not be read: {facts.unreadable}"
        )
    if facts.other_machine:
        reason = f"{facts.member} is for {facts.other_machine}, and this machine is not"
        return ObjectVerdict(facts, LoadOutcome.DOES_NOT_LOAD, reason, MEND)
    if facts.module_for is not None and context.python and facts.module_for != context.python:
        # Symbols do not tell: such a module resolves, and then says that it was compiled for
        # another Python.
        reason = f"{facts.member} is a module for {facts.module_for}, and Python here is {context.python}"
        return ObjectVerdict(facts, LoadOutcome.DOES_NOT_LOAD, reason, MEND)
    if facts.problems.missing:
        return _judge_missing(facts, context, demangle=demangle)
    if facts.problems.versions:
        need = facts.problems.versions[0].need
        return ObjectVerdict(
            facts,
            LoadOutcome.DOES_NOT_LOAD,
            f"{facts.member} needs {need.version} of {need.library}, which is not there"
            f"{f' (here is {context.libc})' if need.version.startswith('GLIBC_') and context.libc else ''}",
            "It was built on a newer system than its name says: take an older version, or build it "
            "here.",
        )
    if facts.problems.undefined:
        return _judge_undefined(facts, context, demangle=demangle)
    return _judge_origin(facts, context)


def _why_other_cuda(member: str, absent: Sequence[str], torch: TorchBuild) -> str:
    """That a file was built for another CUDA than torch, by the libraries that are nowhere; "" where
    none of them says so."""
    of_cuda = [name for name in absent if name in CUDA_OF_TORCH]
    if torch.cuda is None and of_cuda:
        return (
            f"{member} was built for a torch with CUDA (it needs {of_cuda[0]}), and torch "
            f"{torch.runtime_version} has none"
        )
    for name in absent:
        major = cuda_major_of(name)
        if major is not None and torch.cuda is not None and major != int(torch.cuda.split(".")[0]):
            return (
                f"{member} was built for CUDA {major} (it needs {name}), and torch here is for "
                f"CUDA {torch.cuda}"
            )
    return ""


def _judge_missing(
    facts: ObjectFacts, context: TorchContext, *, demangle: Demangler
) -> ObjectVerdict:
    names = list(dict.fromkeys(one.library for one in facts.problems.missing))
    elsewhere = [name for name in names if name in context.libraries]
    if len(elsewhere) == len(names):
        if facts.problems.undefined:
            return _judge_undefined(facts, context, demangle=demangle)
        reason = f"{facts.member} needs {', '.join(names[:SHOWN])}, which lies elsewhere in the environment"
        return ObjectVerdict(facts, LoadOutcome.UNKNOWN, reason)
    absent = [name for name in names if name not in elsewhere]
    other_cuda = _why_other_cuda(facts.member, absent, context.torch)
    if other_cuda:
        return ObjectVerdict(facts, LoadOutcome.DOES_NOT_LOAD, other_cuda, MEND)
    reason = (
        f"{facts.member} needs {', '.join(absent[:SHOWN])}, which "
        f"{'is' if len(absent) == 1 else 'are'} nowhere here"
    )
    return ObjectVerdict(
        facts,
        LoadOutcome.DOES_NOT_LOAD,
        reason,
        "Install what brings the library, or take another build.",
    )


MEND = "Take the build for this torch: `safe-install explain PROJECT` shows which there is, or build it here."


def _judge_undefined(
    facts: ObjectFacts, context: TorchContext, *, demangle: Demangler
) -> ObjectVerdict:
    names = [one.symbol.name for one in facts.problems.undefined]
    of_torch = [name for name in names if _CXX_OF_TORCH.match(name)]
    shown = of_torch or names
    named = ", ".join(demangle(name) for name in shown[:SHOWN])
    count = f"{len(names)} symbol{'' if len(names) == 1 else 's'}"
    if not of_torch:
        return ObjectVerdict(
            facts,
            LoadOutcome.DOES_NOT_LOAD,
            f"{facts.member} needs {count} that nothing here defines: {named}",
            MEND,
        )
    flavour = _flavour(of_torch, context.torch)
    built = f" ({' or '.join(facts.fingerprint.minors)})" if facts.fingerprint.minors else ""
    return ObjectVerdict(
        facts,
        LoadOutcome.DOES_NOT_LOAD,
        f"{facts.member} was built for another torch{built}: it needs {count} that torch "
        f"{context.torch.runtime_version} does not have, e.g. {named}{flavour}",
        MEND,
    )


def _flavour(names: Sequence[str], torch: TorchBuild) -> str:
    """A remark where the names were mangled with the other C++ ABI of libstdc++; else ""."""
    if (
        torch.cxx11_abi
        and not any("__cxx11" in name for name in names)
        and any(map(_has_old_string, names))
    ):
        return " (old C++ ABI)"
    if torch.cxx11_abi is False and any("__cxx11" in name for name in names):
        return " (new C++ ABI)"
    return ""


def _has_old_string(name: str) -> bool:
    """Does a mangled name contain the old std::string ("Ss")? Identifiers in it may contain these
    letters, too."""
    position, kept = 0, ""
    while position < len(name):
        part = _MANGLED_PART.match(name, position)
        if part is None:
            kept += name[position]
            position += 1
        else:
            kept += " "
            position = part.end() + (int(part.group(1)) if part.group(1) else 0)
    return "Ss" in kept


def _judge_origin(facts: ObjectFacts, context: TorchContext) -> ObjectVerdict:
    """The verdict where all symbols resolve: it depends on which torch it was built for."""
    if not facts.uses_torch or not any(map(_CXX_OF_TORCH.match, facts.wanted)):
        # plain C, or the stable ABI: only its symbols matter
        return ObjectVerdict(facts, LoadOutcome.FITS)
    if context.minor in context.known_minors:
        if not facts.fingerprint.minors:
            return ObjectVerdict(
                facts,
                LoadOutcome.UNKNOWN,
                f"{facts.member} does not say which torch it was built for",
            )
        if context.minor in facts.fingerprint.minors:
            return ObjectVerdict(facts, LoadOutcome.FITS)
    elif facts.share is None:
        return ObjectVerdict(
            facts, LoadOutcome.UNKNOWN, f"{facts.member} does not say which torch it was built for"
        )
    elif facts.share >= SAME:
        return ObjectVerdict(facts, LoadOutcome.FITS)
    built = " or ".join(facts.fingerprint.minors) or "another one"
    return ObjectVerdict(
        facts,
        LoadOutcome.ANOTHER_TORCH,
        f"{facts.member} was built for torch {built}, and here is {context.torch.runtime_version}: "
        "it would load, and "
        "may crash or compute wrong numbers",
        MEND,
    )


# --- a wheel --------------------------------------------------------------------------------------


def group_of(member: str) -> str:
    """The group of a file. Files whose names differ only in numbers are alternatives, for different
    ffmpeg, CUDA or torch: one fitting file of them is enough."""
    return _NUMBER.sub("#", member)


def infer_from_siblings(
    verdicts: Sequence[ObjectVerdict], context: TorchContext
) -> List[ObjectVerdict]:
    """The verdicts, where a file without assertions gets the torch of the wheel's other files: they
    come from one build.

    Alternatives for different torches are not used for each other.
    """
    alone = [
        members[0]
        for members in _groups(verdicts).values()
        if len(members) == 1 and members[0].facts.uses_torch
    ]
    said = [set(one.facts.fingerprint.minors) for one in alone if one.facts.fingerprint.minors]
    minors = set.intersection(*said) if said else set()
    if not minors or context.minor not in context.known_minors:
        return list(verdicts)
    silent = {id(one) for one in alone if one.outcome is LoadOutcome.UNKNOWN and _is_silent(one)}
    return [
        _in_company(one, sorted(minors), context) if id(one) in silent else one for one in verdicts
    ]


def _is_silent(one: ObjectVerdict) -> bool:
    return not (one.facts.unreadable or one.facts.problems.missing or one.facts.fingerprint.minors)


def _in_company(one: ObjectVerdict, minors: Sequence[str], context: TorchContext) -> ObjectVerdict:
    if context.minor in minors:
        return ObjectVerdict(one.facts, LoadOutcome.FITS)
    reason = f"{one.facts.member} lies beside files that were built for torch {' or '.join(minors)}"
    return ObjectVerdict(
        one.facts,
        LoadOutcome.ANOTHER_TORCH,
        f"{reason}, and here is {context.torch.runtime_version}: it may crash",
        MEND,
    )


def judge_wheel(
    verdicts: Sequence[ObjectVerdict], needs: Optional[Needs]
) -> Tuple[LoadOutcome, Tuple[ObjectVerdict, ...]]:
    """The outcome for a wheel, and the objects that decide it.

    The files decide that the project is known to need (`needs(member)`), and alternatives for
    torch, of which one must fit. `needs` None: the project is not known, and every file that uses
    torch must fit. A file that lacks a library of the system (libsox), or of CUDA in an unknown
    project, is optional while another file fits: nothing loads it.
    """
    groups = _groups(verdicts)
    best = {
        name: min(members, key=lambda one: _BADNESS[one.outcome])
        for name, members in groups.items()
    }
    if needs is None:
        needed = [one for one in best.values() if one.facts.uses_torch]
    else:
        needed = [one for one in best.values() if needs(one.facts.member)]
        needed += [
            best[name]
            for name, members in groups.items()
            if len(members) > 1 and _is_for_torch(best[name])
        ]
    if any(one.outcome is LoadOutcome.FITS and one.facts.uses_torch for one in needed):
        needed = [one for one in needed if not _is_optional(one, is_known=needs is not None)]
    if not needed:
        return LoadOutcome.FITS, ()
    worst = max(needed, key=lambda one: _BADNESS[one.outcome])
    return worst.outcome, tuple(
        {id(one): one for one in needed if one.outcome is worst.outcome}.values()
    )


def _is_optional(one: ObjectVerdict, *, is_known: bool) -> bool:
    missing = [lost.library for lost in one.facts.problems.missing]
    if not missing or one.outcome is not LoadOutcome.DOES_NOT_LOAD:
        return False
    of_cuda = [name for name in missing if _CUDA_LIBRARY.match(name) or name in CUDA_OF_TORCH]
    of_torch = [name for name in missing if is_torch_library(name) and name not in CUDA_OF_TORCH]
    return not of_torch and not (is_known and of_cuda)


def _groups(verdicts: Sequence[ObjectVerdict]) -> Dict[str, List[ObjectVerdict]]:
    groups: Dict[str, List[ObjectVerdict]] = {}
    for one in verdicts:
        groups.setdefault(group_of(one.facts.member), []).append(one)
    return groups


def _is_for_torch(one: ObjectVerdict) -> bool:
    """Does it depend on torch whether it loads? A missing library of the system, such as ffmpeg's,
    is not torch's fault."""
    if not one.facts.uses_torch:
        return False
    missing = [lost.library for lost in one.facts.problems.missing]
    return not missing or any(
        is_torch_library(name) or _CUDA_LIBRARY.match(name) for name in missing
    )


_BADNESS: Mapping[LoadOutcome, int] = {
    LoadOutcome.FITS: 0,
    LoadOutcome.UNKNOWN: 1,
    LoadOutcome.ANOTHER_TORCH: 2,
    LoadOutcome.DOES_NOT_LOAD: 3,
}
CHECKS: Mapping[LoadOutcome, str] = {
    LoadOutcome.DOES_NOT_LOAD: "does-not-load",
    LoadOutcome.ANOTHER_TORCH: "built-for-another-torch",
    LoadOutcome.UNKNOWN: "load-unknown",
}


def findings_of(
    name: str,
    verdicts: Sequence[ObjectVerdict],
    needs: Optional[Needs],
    *,
    is_asked_for: bool = False,
) -> Tuple[Finding, ...]:
    """The findings on a wheel's files; an error refuses it. `is_asked_for`: the user named this
    exact file; what loads is then tried."""
    outcome, deciding_objects = judge_wheel(verdicts, needs)
    findings = []
    if outcome is LoadOutcome.DOES_NOT_LOAD or outcome is LoadOutcome.ANOTHER_TORCH:
        is_error = outcome is LoadOutcome.DOES_NOT_LOAD or not is_asked_for
        severity = Severity.ERROR if is_error else Severity.WARNING
        findings += [
            Finding(CHECKS[outcome], severity, name, one.reason, hint_of(one, name))
            for one in deciding_objects
        ]
    named = {group_of(one.facts.member) for one in deciding_objects} if findings else set()
    findings += _note_lost_parts(name, verdicts, named)
    drivers = sorted({library for one in verdicts for library in one.facts.problems.driver})
    if drivers:
        detail = f"{name} needs {', '.join(drivers)} of the driver, which is not here: it cannot be verified"
        hint = "`safe-install verify --require-cuda` on the machine that has the GPU settles it."
        findings.append(Finding("needs-driver", Severity.NOTE, name, detail, hint))
    return tuple(findings)


def _note_lost_parts(
    name: str, verdicts: Sequence[ObjectVerdict], named: Container[str]
) -> Iterator[Finding]:
    """Notes on parts that use torch and do not load. `named`: those that an error names."""
    for group, members in _groups(verdicts).items():
        lost = all(one.outcome is LoadOutcome.DOES_NOT_LOAD for one in members)
        if lost and group not in named and members[0].facts.uses_torch:
            yield Finding("optional-part-does-not-load", Severity.NOTE, name, members[0].reason)


def hint_of(one: ObjectVerdict, name: str) -> str:
    """What to do about a file of this project."""
    return one.hint.replace("PROJECT", name)


def open_findings(
    name: str, verdicts: Sequence[ObjectVerdict], needs: Optional[Needs]
) -> Tuple[Finding, ...]:
    """The findings on what reading the files cannot decide; the import after the installation
    does."""
    outcome, deciding_objects = judge_wheel(verdicts, needs)
    if outcome is not LoadOutcome.UNKNOWN:
        return ()
    hint = "Installed with safe-install it is loaded, and taken back if it does not work."
    return tuple(
        Finding(CHECKS[outcome], Severity.WARNING, name, one.reason, hint)
        for one in deciding_objects
    )


def torch_findings(verdicts: Sequence[ObjectVerdict]) -> Tuple[Finding, ...]:
    """Would torch itself still load?"""
    return tuple(
        Finding(
            "torch-would-not-load",
            Severity.ERROR,
            "torch",
            f"torch itself would no longer load: {one.reason}",
            "Ask for the version of the library that this torch requires: `pip show torch` names "
            "it.",
        )
        for one in verdicts
        if one.outcome is LoadOutcome.DOES_NOT_LOAD
    )


def is_torch_symbol(name: str) -> bool:
    """Is it a C++ name in one of torch's namespaces?"""
    return _CXX_OF_TORCH.match(name) is not None


def cuda_major_of(library: str) -> Optional[int]:
    """The CUDA major version in the file name of a library: 12 for `libcudart.so.12`."""
    found = _WITH_CUDA_MAJOR.match(library)
    return int(found.group(1)) if found else None


def is_torch_library(name: str) -> bool:
    """`libtorch_cpu.so`, `libc10.so`, ...: an object that needs one of them uses torch."""
    return _TORCH_LIBRARY.match(posixpath.basename(name)) is not None
