"""Finds the CUDA toolkits of this machine, fetches one from the package index, and makes a CUDA
home from parts."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import tempfile
from hashlib import sha256 as make_sha256
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from safe_install.errors import PipFailed, Refused
from safe_install.events import Reporter
from safe_install.models import Environment
from safe_install.pip_output import has_no_match
from safe_install.system import process
from safe_install.wheels.lock import hold_lock
from safe_install.wheels.recipe import Gcc, scrub_variables
from safe_install.wheels.toolkit_choice import (
    CACHE,
    CONDA,
    CUDA_HOME,
    CUDA_PATH,
    ENVIRONMENT,
    NVCC_ON_PATH,
    OLDEST_MAJOR_ON_INDEX,
    REQUIRED_HEADERS,
    SYSTEM,
    NvccFolders,
    Place,
    Toolkit,
    ToolkitParts,
    Unusable,
    check_one_release,
    list_obtainable,
    major_version,
    parse_architectures_of_nvcc,
    parse_newest_gcc,
    parse_nvcc_folders,
    parse_release,
)

InstallRequirements = Callable[[Sequence[str], Path], None]  # requirements, target folder

# Where system packages and runfiles put toolkits; NVIDIA's own are /usr/local/cuda-13.0.
SYSTEM_FOLDERS = (Path("/usr/local"), Path("/opt"))
ONE_RELEASE = ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm")
# The files of a toolkit in a folder with many others (/usr/bin, conda's bin).
PROGRAMS = (
    "nvcc", "nvcc.profile", "__nvcc_device_query", "bin2c", "cicc", "crt", "cudafe++", "cu++filt", "cuobjdump",
    "fatbinary", "nvdisasm", "nvlink", "nvprune", "ptxas",
)  # fmt: skip


def find_places(
    environment: Environment, variables: Mapping[str, str], cache: Path
) -> Tuple[Place, ...]:
    """Every place where a CUDA toolkit was found, or should be, in order of preference.

    nvcc is run to learn its version and folders; no other program is.
    """
    packages = find_package_includes(environment)
    seen: Dict[Path, str] = {}
    places: List[Place] = []
    for origin, home in _candidates(environment, variables, cache):
        place = _read_place(origin, home, environment, packages, seen)
        if place is not None:
            places.append(place)
    return tuple(places)


def _candidates(
    environment: Environment, variables: Mapping[str, str], cache: Path
) -> Iterator[Tuple[str, Path]]:
    for name in (CUDA_HOME, CUDA_PATH):
        if variables.get(name):
            yield name, Path(variables[name])
    on_path = shutil.which("nvcc", path=variables.get("PATH"))
    if on_path:
        yield NVCC_ON_PATH, Path(on_path).parent.parent
    conda = variables.get("CONDA_PREFIX")
    if conda:
        yield CONDA, Path(conda)
    if environment.interpreter.conda:
        yield CONDA, environment.interpreter.prefix
    for site in _site_folders(environment):
        yield ENVIRONMENT, site / _index_folder(environment)
    for folder in SYSTEM_FOLDERS:
        # Newest first, as numbers: cuda-12.10 is newer than cuda-12.9.
        versioned = sorted(folder.glob("cuda-*"), key=_version_key, reverse=True)
        for home in (folder / "cuda", *versioned):
            yield SYSTEM, home
    brought = find_brought(environment, cache)
    if brought is not None:
        yield CACHE, brought / _index_folder(environment)


def _index_folder(environment: Environment) -> str:
    """The folder below site-packages of a toolkit from the package index. Those of CUDA 12 are
    separate (nvidia/cublas)."""
    cuda = environment.torch.cuda if environment.torch else None
    return f"nvidia/cu{major_version(cuda or '0')}"


def _version_key(path: Path) -> Tuple[int, ...]:
    return tuple(int(part) for part in path.name[len("cuda-") :].split(".") if part.isdigit())


def _read_place(
    origin: str,
    home: Path,
    environment: Environment,
    packages: Sequence[Path],
    seen: Dict[Path, str],
) -> Optional[Place]:
    try:
        return _ask_place(origin, home, environment, packages, seen)
    except OSError as error:  # it may not be read, or its nvcc not be started
        return Unusable(origin, home, f"cannot be used ({error.strerror})")


def _ask_place(
    origin: str,
    home: Path,
    environment: Environment,
    packages: Sequence[Path],
    seen: Dict[Path, str],
) -> Optional[Place]:
    nvcc = home / "bin" / "nvcc"
    if not nvcc.is_file():
        return _without_nvcc(origin, home)
    real = Path(os.path.realpath(str(nvcc)))
    # a link may also lead to ccache, which reads the name that it was called by
    if real.name == nvcc.name:
        nvcc = real
    folders = _ask_folders(nvcc)
    real = Path(os.path.realpath(str((folders.programs if folders else nvcc.parent) / "nvcc")))
    if real in seen:
        return None  # the same toolkit by another way
    seen[real] = origin
    reason = _check_packages(environment) if origin == ENVIRONMENT else ""
    if reason:
        return Unusable(origin, home, reason)
    answer = _ask_program([str(nvcc), "--version"])
    version = parse_release(answer.stdout)
    if version is None:
        return Unusable(
            origin, home, f"nvcc --version ends with {answer.ended_by or answer.returncode}"
        )
    return _read_toolkit(origin, home, version, nvcc, folders, packages)


def _without_nvcc(origin: str, home: Path) -> Optional[Place]:
    """A place without nvcc, listed where somebody could believe that it is a toolkit."""
    if origin in (CUDA_HOME, CUDA_PATH):
        return Unusable(origin, home, "no nvcc" if home.is_dir() else "no such folder")
    if origin == ENVIRONMENT:
        return None  # every CUDA build of torch has headers there, and no compiler
    headers = (home / "include", *home.glob("targets/*/include"))
    if any((folder / "cuda_runtime.h").is_file() for folder in headers):
        return Unusable(origin, home, "headers, and no nvcc")
    return None


def _read_toolkit(
    origin: str,
    home: Path,
    version: str,
    nvcc: Path,
    folders: Optional[NvccFolders],
    packages: Sequence[Path],
) -> Toolkit:
    top = _real_home(home, folders)
    includes = _own_includes(top, folders)
    own = find_headers(includes)
    added = [path for path in find_headers(packages) if path not in own]
    missing = tuple(h.path for h in REQUIRED_HEADERS if h.path not in own and h.path not in added)
    completed = tuple(h.path for h in REQUIRED_HEADERS if h.path in added)
    listed = _ask_program([str(nvcc), "--list-gpu-arch"])
    toolkit = Toolkit(
        home=top,
        version=version,
        architectures=parse_architectures_of_nvcc(listed.stdout),
        origin=origin,
        missing=missing,
        newest_gcc=_read_newest_gcc(includes),
    )
    if str(top) == "/usr":
        # A Linux distribution's own package. Its include folder is gcc's own, and must not be given
        # to gcc again.
        return dataclasses.replace(toolkit, missing=(*missing, *completed))
    if not missing and not completed and _is_whole(top):
        return toolkit
    parts = _list_parts(top, folders, includes, packages)
    return dataclasses.replace(toolkit, completed=completed, parts=parts)


def _real_home(home: Path, folders: Optional[NvccFolders]) -> Path:
    """The home behind a wrapper script or a link; for /usr, whose headers are not beside nvcc."""
    top = Path(os.path.realpath(str(folders.top))) if folders else home
    if find_headers([top / "include", *top.glob("targets/*/include")]):
        return top
    return home if find_headers([home / "include"]) else top


def _own_includes(top: Path, folders: Optional[NvccFolders]) -> Tuple[Path, ...]:
    """The include folders of a toolkit that have at least one header of CUDA (conda's `include` has
    others, too)."""
    listed = [top / "include", *sorted(top.glob("targets/*/include"))]
    listed += folders.includes if folders else ()
    found = {
        Path(os.path.realpath(str(folder))): None for folder in listed if find_headers([folder])
    }
    return tuple(found)


def _is_whole(home: Path) -> bool:
    """Do torch's build and CMake find headers and libraries where they search?"""
    headers = find_headers([home / "include"])
    libraries = [home / "lib64", home / "lib", *home.glob("lib/*-linux-gnu")]
    has_runtime = any((folder / "libcudart.so").exists() for folder in libraries)
    return len(headers) == len(REQUIRED_HEADERS) and has_runtime


def _list_parts(
    top: Path, folders: Optional[NvccFolders], includes: Sequence[Path], packages: Sequence[Path]
) -> ToolkitParts:
    # conda's `lib` holds everything else, too: it is not taken where the toolkit's libraries lie
    # apart.
    libraries = [*(folders.libraries if folders else ()), *top.glob("targets/*/lib")]
    libraries = [folder for folder in libraries if folder.is_dir()] or [top / "lib64", top / "lib"]
    libraries += [folder.parent / "lib" for folder in packages]
    existing = {
        Path(os.path.realpath(str(folder))): None for folder in libraries if folder.is_dir()
    }
    cicc = folders.cicc if folders else None
    nvvm = cicc.parent if cicc is not None and cicc.name == "bin" else top / "nvvm"
    return ToolkitParts(
        programs=Path(os.path.realpath(str(folders.programs if folders else top / "bin"))),
        nvvm=Path(os.path.realpath(str(nvvm))),
        includes=(*includes, *packages),
        libraries=tuple(existing),
    )


def _ask_program(command: Sequence[str]) -> process.Completed:
    """The output of a compiler, run without secrets and without a user's folder to write to."""
    return process.run(
        command, timeout=30, env=scrub_variables(process.inherited_variables()), cwd=Path(os.sep)
    )


def _ask_folders(nvcc: Path) -> Optional[NvccFolders]:
    # As CMake asks it: the file need not exist. The answer comes before the complaint, on stderr.
    answer = _ask_program([str(nvcc), "-v", "__safe_install_asks"])
    return parse_nvcc_folders(answer.stderr + answer.stdout)


def _read_newest_gcc(includes: Sequence[Path]) -> Optional[int]:
    for folder in includes:
        path = folder / "crt" / "host_config.h"
        if path.is_file():
            return parse_newest_gcc(path.read_text("utf-8", errors="replace"))
    return None


def _check_packages(environment: Environment) -> str:
    installed = environment.installed
    versions = {name: installed[name].version for name in ONE_RELEASE if name in installed}  # type: ignore[index]
    return check_one_release(versions)


# --- the headers of the environment's packages ----------------------------------------------------


def find_package_includes(environment: Environment) -> Tuple[Path, ...]:
    """The include folders of the nvidia packages that torch requires: `nvidia/cu13`, or one for
    each library."""
    found: List[Path] = []
    cuda = environment.torch.cuda if environment.torch else None
    for site in _site_folders(environment):
        folders = [site / _index_folder(environment) / "include"]
        if major_version(cuda or "0") < OLDEST_MAJOR_ON_INDEX:
            # nvidia/cublas, nvidia/cusparse ...; nvidia/cu13 belongs to another CUDA.
            apart = sorted((site / "nvidia").glob("*/include"))
            folders = [path for path in apart if not re.match(r"cu\d", path.parent.name)]
        found += [folder for folder in folders if find_headers([folder])]
    return tuple(found)


def find_headers(folders: Sequence[Path]) -> Tuple[str, ...]:
    """The required headers that are in these include folders."""
    return tuple(header.path for header in REQUIRED_HEADERS if _holds(folders, header.path))


def _holds(folders: Sequence[Path], path: str) -> bool:
    return any(
        (folder / path).is_file() or (folder / "cccl" / path).is_file() for folder in folders
    )


def _site_folders(environment: Environment) -> Tuple[Path, ...]:
    scheme = environment.interpreter.scheme
    torch = environment.installed.get("torch")  # type: ignore[call-overload]
    beside_torch = (torch.location,) if torch is not None else ()
    return tuple(dict.fromkeys((*beside_torch, scheme.purelib, scheme.platlib)))


# --- the host compiler ----------------------------------------------------------------------------


def find_gcc(variables: Mapping[str, str]) -> Optional[Gcc]:
    """The gcc that nvcc uses: -ccbin, NVCC_CCBIN, CC (passed on by torch), else gcc on PATH. None
    for another compiler."""
    flags = f"{variables.get('NVCC_PREPEND_FLAGS', '')} {variables.get('NVCC_APPEND_FLAGS', '')}"
    named = re.findall(r"(?:-ccbin|--compiler-bindir)[= ]\s*(\S+)", flags)
    command = named[-1] if named else variables.get("NVCC_CCBIN") or variables.get("CC") or "gcc"
    path = shutil.which(command.split()[-1], path=variables.get("PATH"))
    return _read_gcc(path) if path else None


def find_other_gccs(variables: Mapping[str, str]) -> Tuple[Gcc, ...]:
    """gcc-9, gcc-12 ... on PATH whose g++ exists, too."""
    found: Dict[str, Gcc] = {}
    for folder in variables.get("PATH", os.defpath).split(os.pathsep):
        for path in sorted(Path(folder or ".").glob("gcc-[0-9]*")):
            number = path.name[len("gcc-") :]
            if number.isdigit() and path.with_name(f"g++-{number}").exists():
                found.setdefault(path.name, Gcc(str(path), int(number)))
    return tuple(found.values())


def _read_gcc(path: str) -> Optional[Gcc]:
    macros = _ask_program([path, "-dM", "-E", "-x", "c", "/dev/null"]).stdout
    defined = dict(line.split(" ", 2)[1:] for line in macros.splitlines() if line.count(" ") >= 2)
    number = defined.get("__GNUC__", "")
    return Gcc(path, int(number)) if number.isdigit() and "__clang__" not in defined else None


# --- a toolkit from the package index -------------------------------------------------------------


def find_brought(environment: Environment, cache: Path) -> Optional[Path]:
    """The folder in the cache with the toolkit that would be fetched for this torch; None where it
    is not there."""
    requirements = list_obtainable(
        environment, headers=find_headers(find_package_includes(environment))
    )
    folder = _brought_folder(environment, requirements, cache)
    return folder if requirements and folder.is_dir() else None


def _brought_folder(environment: Environment, requirements: Sequence[str], cache: Path) -> Path:
    digest = make_sha256("\n".join(requirements).encode()).hexdigest()[:12]
    cuda = environment.torch.cuda if environment.torch else None
    return cache / "toolkits" / f"cuda{cuda}-{environment.interpreter.platform}-{digest}"


def bring_toolkit(
    requirements: Sequence[str],
    environment: Environment,
    cache: Path,
    install: InstallRequirements,
    reporter: Reporter,
) -> Path:
    """Fetch the toolkit named by `requirements` into the cache, once. The result: its folder.

    `install` fills a folder (`pip install --target`, wheels only). Errors: Refused where the index
    does not have it.
    """
    target = _brought_folder(environment, requirements, cache)
    target.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(
        target.with_name(f"{target.name}.lock"),
        reporter,
        "another build that fetches the CUDA toolkit",
    ):
        if target.is_dir():
            return target
        reporter.note(
            f"No CUDA toolkit here fits: fetching {' '.join(requirements)} from the package index "
            f"into {target} "
            "(not into the environment; --no-toolkit forbids it)"
        )
        # A folder under its final name is complete: pip fills another one, which then changes its
        # name.
        unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=str(target.parent)))
        try:
            with reporter.task("fetch the CUDA toolkit"):
                install_toolkit_packages(requirements, unfinished, install)
            _check_brought(unfinished, requirements)
            unfinished.rename(target)
        except BaseException:
            shutil.rmtree(str(unfinished), ignore_errors=True)
            raise
    return target


def install_toolkit_packages(
    requirements: Sequence[str], folder: Path, install: InstallRequirements
) -> None:
    """Install the packages into `folder`. Errors: Refused where the index does not have them, else
    PipFailed."""
    try:
        install(requirements, folder)
    except PipFailed as error:
        if not has_no_match(error.output):
            raise
        raise Refused(
            f"the package index has no CUDA toolkit for this torch ({' '.join(requirements)})",
            hint="Install the toolkit of torch's CUDA version and set CUDA_HOME.",
        ) from error


def _check_brought(folder: Path, requirements: Sequence[str]) -> None:
    if not list(folder.glob("nvidia/cu*/bin/nvcc")):
        raise Refused(
            f"{' '.join(requirements)} brought no nvcc",
            hint="Install the toolkit of torch's CUDA version and set CUDA_HOME.",
        )


# --- a CUDA home from parts -----------------------------------------------------------------------


def make_home(parts: ToolkitParts, home: Path) -> Path:
    """Make a CUDA home of links: bin, include, lib64 and nvvm, with the unversioned names of
    libraries.

    `bin` is a real folder, because nvcc searches everything else relative to it.
    """
    for name in ("bin", "include", "lib64"):
        (home / name).mkdir(parents=True)
    for path in sorted(parts.programs.iterdir()):
        if path.name in PROGRAMS:
            (home / "bin" / path.name).symlink_to(path)
    for path in _entries(parts.includes):
        (home / "include" / path.name).symlink_to(path)
    _link_libraries(_entries(parts.libraries), home / "lib64")
    (home / "lib").symlink_to("lib64")
    (home / "nvvm").symlink_to(parts.nvvm)
    return home


def _link_libraries(libraries: Iterable[Path], folder: Path) -> None:
    """By their names, and by what the linker looks for, which NVIDIA's wheels do not have."""
    found = list(libraries)
    for path in found:
        (folder / path.name).symlink_to(path)
    for path in found:
        stem, suffix, _ = path.name.partition(".so.")
        plain = folder / f"{stem}.so"
        if suffix and not plain.exists():
            plain.symlink_to(path)


def _entries(folders: Sequence[Path]) -> Iterator[Path]:
    """The entries of these folders, each name once; earlier folders have precedence."""
    names = set()
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.name not in names:
                names.add(path.name)
                yield path
