"""Empty stand-ins of the NVIDIA libraries, for a real CUDA torch that was installed with --no-deps.

    python -m tests.lab.stub_libraries SITE_PACKAGES OUT      then put OUT in front of
    LD_LIBRARY_PATH

Each has the soname and every symbol that torch's libraries want from outside, with its version
node. Nothing in them can be called. Needs readelf and a C compiler.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import DefaultDict, Dict, Iterable, List, Set

# Which unversioned symbols belong to which library.
PREFIXES = {
    "libcudnn": "cudnn",
    "libcublas.": "cublas(?!Lt)",
    "libcublasLt": "cublasLt",
    "libcusparse.": "cusparse(?!Lt)",
    "libcusparseLt": "cusparseLt",
    "libcufft": "cufft",
    "libcurand": "curand",
    "libnccl": "nccl",
    "libnvrtc": "nvrtc",
    "libcudart": "cuda|__cuda",
    "libcupti": "cupti",
    "libcufile": "cuFile",
    "libnvshmem": "nvshmem|_ZN.*nvshmem",
    "libnvJitLink": "nvJitLink|__nvJitLink",
    "libcusolver": "cusolver",
}


@dataclass
class Wanted:
    """What torch's libraries need, define and want."""

    needed: Set[str] = field(default_factory=set)
    defined: Set[str] = field(default_factory=set)
    undefined: Dict[str, str] = field(default_factory=dict)  # symbol -> version node or ""
    # library -> version nodes
    nodes: DefaultDict[str, Set[str]] = field(default_factory=lambda: defaultdict(set))


def read_wanted(libraries: Iterable[Path]) -> Wanted:
    """All of them together."""
    wanted = Wanted()
    for library in libraries:
        wanted.needed |= set(re.findall(r"\(NEEDED\).*\[(.*?)\]", _readelf("-dW", library)))
        _read_symbols(_readelf("--dyn-syms", library, "-W"), wanted)
        _read_nodes(_readelf("-VW", library), wanted)
    return wanted


def _readelf(option: str, library: Path, *more: str) -> str:
    return subprocess.run(
        ["readelf", option, *more, str(library)], capture_output=True, text=True, check=True
    ).stdout


def _read_symbols(text: str, wanted: Wanted) -> None:
    for line in text.splitlines():
        columns = line.split()
        if len(columns) < 8 or not columns[0].rstrip(":").isdigit():
            continue
        name, _, version = columns[7].partition("@")
        if columns[6] != "UND":
            wanted.defined.add(name)
        elif columns[4] == "GLOBAL":
            wanted.undefined.setdefault(name, version.lstrip("@"))


def _read_nodes(text: str, wanted: Wanted) -> None:
    library = ""
    for line in text.splitlines():
        file = re.search(r"File: (\S+)", line)
        library = file.group(1) if file else library
        node = re.search(r"Name: (\S+)\s+Flags", line)
        if node and library:
            wanted.nodes[library].add(node.group(1))


def missing_libraries(wanted: Wanted, present: Set[str]) -> List[str]:
    """Those that neither torch nor the system has; libcuda.so.1 is the driver's."""
    system = subprocess.run(
        ["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False
    ).stdout
    outside = [
        name
        for name in wanted.needed - present
        if name != "libcuda.so.1" and not name.startswith("ld-linux")
    ]
    return sorted(
        name for name in outside if re.match(r"lib(cu|nv)", name) or f"\t{name} " not in system
    )


def write_stub(library: str, wanted: Wanted, out: Path) -> int:
    """Compile one stand-in; how many symbols it has."""
    by_node = _symbols_by_node(library, wanted)
    names = sorted({name for names in by_node.values() for name in names})
    code = "".join(
        f"int {name}(void) {{ return 1; }}\n" for name in names if re.match(r"^[A-Za-z_]\w*$", name)
    )
    command = [
        "cc",
        "-shared",
        "-fPIC",
        "-w",
        "-O1",
        "-x",
        "c",
        "-",
        f"-Wl,-soname,{library}",
        "-o",
        str(out / library),
    ]
    nodes = wanted.nodes.get(library) or {node for node in by_node if node}
    script = out / f"{library}.map"
    if nodes:
        listed = (
            f"{node} {{ global: {' '.join(f'{name};' for name in by_node.get(node, []))} }};\n"
            for node in nodes
        )
        script.write_text("".join(listed))
        command.append(f"-Wl,--version-script={script}")
    subprocess.run(command, input=code, text=True, check=True)
    script.unlink(missing_ok=True)
    return len(names)


def _symbols_by_node(library: str, wanted: Wanted) -> Dict[str, List[str]]:
    prefix = next(
        (pattern for start, pattern in PREFIXES.items() if library.startswith(start)), None
    )
    nodes = wanted.nodes.get(library, set())
    found: DefaultDict[str, List[str]] = defaultdict(list)
    for name, node in wanted.undefined.items():
        mine = node in nodes if node else bool(prefix and re.match(prefix, name))
        if mine and name not in wanted.defined:
            found[node].append(name)
    return found


def main(site: Path, out: Path) -> None:
    """Make them all."""
    out.mkdir(parents=True, exist_ok=True)
    libraries = [*(site / "torch" / "lib").glob("*.so*"), *(site / "torch").glob("_C*.so")]
    wanted = read_wanted(libraries)
    for library in missing_libraries(wanted, {path.name for path in libraries}):
        print(library, write_stub(library, wanted, out), "symbols")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
