"""Makes the stand-in wheels: real wheel files, real ELF libraries, a few KB each."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Union

PACKAGES = Path(__file__).parent / "packages"
Files = Mapping[str, Union[str, bytes]]

# c10::Error's constructor, whose mangled name tells the C++ ABI of a build.
ABI_SYMBOLS = {
    True: "_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE",
    False: "_ZN3c105ErrorC2ENS_14SourceLocationESs",
}


@dataclass(frozen=True)
class Torch:
    """One build of the stand-in torch."""

    version: str  # torch.__version__
    metadata_version: str
    cuda: Optional[str] = None
    cxx11_abi: bool = True
    requires: Sequence[str] = ()
    needs_literal: bool = False
    nccl: bool = False

    @property
    def symbol(self) -> str:
        """A symbol that only this version exports."""
        return "_ZN3c10_" + "".join(c if c.isalnum() else "_" for c in self.version.split("+")[0])

    @property
    def libraries(self) -> List[str]:
        """In the order in which they are loaded."""
        cuda = ["libc10_cuda.so", "libtorch_cuda.so"] if self.cuda else []
        return ["libc10.so", "libtorch_cpu.so", *cuda, "libtorch.so", "libtorch_python.so"]


TORCHES = {
    "1.8.1+cu111": Torch(
        "1.8.1+cu111",
        "1.8.1+cu111",
        "11.1",
        cxx11_abi=False,
        requires=["typing-extensions"],
        needs_literal=True,
    ),
    "2.4.1+cu121": Torch("2.4.1+cu121", "2.4.1", "12.1", cxx11_abi=False),
    "2.13.0+cpu": Torch("2.13.0+cpu", "2.13.0+cpu"),
    "2.14.1+cu130": Torch(
        "2.14.1+cu130", "2.14.1", "13.0", requires=["nvidia-nccl-cu13==2.30.7"], nccl=True
    ),
    "vendor": Torch("2.8.0a0+5228986c39.nv25.05", "2.8.0a0+5228986c39.nv25.5", "12.9"),
}


@dataclass(frozen=True)
class LabWheels:
    """Where the wheels lie."""

    index: Path  # what pip may find: --find-links
    vendor: Path  # a torch that no host has
    extensions: Path  # one folder for each torch, by the torch's key: what a wheel host serves
    foreign: Path  # torch_scatter linked against another torch than its name says

    @classmethod
    def at(cls, out: Path) -> LabWheels:
        """Those that `build_wheels` made in `out`."""
        return cls(out / "index", out / "vendor", out / "extensions", out / "foreign")


def build_wheels(out: Path, python: str) -> LabWheels:
    """All of them below `out`, for `python` ("3.8")."""
    wheels = LabWheels.at(out)
    tag = "cp{0}-cp{0}-linux_x86_64".format(python.replace(".", ""))
    with tempfile.TemporaryDirectory() as folder:
        built = {key: _build_torch(torch, Path(folder) / key) for key, torch in TORCHES.items()}
        for key, libraries in built.items():
            _pack_torch(
                wheels.vendor if key == "vendor" else wheels.index, TORCHES[key], libraries, tag
            )
        for key, version in (("1.8.1+cu111", "2.0.8"), ("2.4.1+cu121", "2.1.2+pt24cu121")):
            _pack_scatter(wheels.extensions / key, version, TORCHES[key], built[key], tag)
        _pack_scatter(wheels.foreign, "2.0.8", TORCHES["2.14.1+cu130"], built["2.14.1+cu130"], tag)
        _pack_nccl(wheels.index, Path(folder))
    _pack_pure(wheels.index)
    return wheels


def build_torch(out: Path, python: str, torch: Torch) -> Path:
    """One torch, by its public file name, in the folder `out`."""
    with tempfile.TemporaryDirectory() as folder:
        libraries = _build_torch(torch, Path(folder))
        _pack_torch(
            out, torch, libraries, "cp{0}-cp{0}-linux_x86_64".format(python.replace(".", ""))
        )
    (found,) = out.glob("torch-*.whl")
    return found


def build_torch_and_scatter(out: Path, python: str, torch: Torch, scatter_version: str) -> None:
    """One torch, by its public file name, and a torch_scatter that is linked against it, in the
    folder `out`."""
    tag = "cp{0}-cp{0}-linux_x86_64".format(python.replace(".", ""))
    with tempfile.TemporaryDirectory() as folder:
        libraries = _build_torch(torch, Path(folder))
        _pack_torch(out, torch, libraries, tag)
        _pack_scatter(out, scatter_version, torch, libraries, tag)


# --- the wheels -----------------------------------------------------------------------------------


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    files: Files,
    *,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
    metadata: str = "",
) -> Path:
    """A wheel file with METADATA, WHEEL and RECORD."""
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    everything: Dict[str, Union[str, bytes]] = dict(files)
    lines = [f"Requires-Dist: {requirement}\n" for requirement in requires]
    everything[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{''.join(lines)}{metadata}"
    )
    everything[f"{info}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: lab\nRoot-Is-Purelib: "
        f"{str(tag.endswith('any')).lower()}\nTag: {tag}\n"
    )
    content = {
        path: data.encode() if isinstance(data, str) else data for path, data in everything.items()
    }
    rows = [f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in content.items()]
    content[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in content.items():
            archive.writestr(zipfile.ZipInfo(member, (2021, 4, 1, 0, 0, 0)), data)
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _pack_torch(folder: Path, torch: Torch, libraries: Mapping[str, Path], tag: str) -> None:
    files: Dict[str, Union[str, bytes]] = {
        f"torch/lib/{name}": path.read_bytes()
        for name, path in libraries.items()
        if name in torch.libraries
    }
    for source in sorted((PACKAGES / "torch").rglob("*.py")):
        files[source.relative_to(PACKAGES).as_posix()] = source.read_text()
    files["torch/_build.py"] = (
        f"LIBRARIES = {torch.libraries!r}\nCXX11_ABI = {torch.cxx11_abi!r}\nNEEDS_LITERAL = "
        f"{torch.needs_literal!r}\n"
        f"ARCHITECTURES = {['sm_70', 'sm_80'] if torch.cuda else []!r}\n"
    )
    git = hashlib.sha1(torch.version.encode()).hexdigest()
    files["torch/version.py"] = (
        f"__version__ = {torch.version!r}\ndebug = False\ncuda = {torch.cuda!r}\ngit_version = "
        f"{git!r}\nhip = None\n"
    )
    write_wheel(folder, "torch", torch.metadata_version, files, requires=torch.requires, tag=tag)


def _pack_scatter(
    folder: Path, version: str, torch: Torch, libraries: Mapping[str, Path], tag: str
) -> None:
    with tempfile.TemporaryDirectory() as made:
        cpu = _link(
            Path(made) / "_scatter_cpu.so",
            wants=[f"{torch.symbol}_cpu"],
            needs=_some(libraries, "c10", "torch_cpu"),
        )
        cuda = _link(
            Path(made) / "_scatter_cuda.so",
            wants=[f"{torch.symbol}_cuda", torch.symbol],
            needs=_some(libraries, "c10", "torch_cpu", "c10_cuda", "torch_cuda"),
        )
        files: Dict[str, Union[str, bytes]] = {
            f"torch_scatter/{so.name}": so.read_bytes() for so in (cpu, cuda)
        }
    files["torch_scatter/__init__.py"] = (PACKAGES / "torch_scatter" / "__init__.py").read_text()
    write_wheel(folder, "torch_scatter", version, files, tag=tag)


def _pack_nccl(folder: Path, made: Path) -> None:
    for major, version, exports in (
        ("13", "2.30.7", ["ncclInit", "ncclCommResume"]),
        ("12", "2.18.1", ["ncclInit"]),
    ):
        library = _link(made / f"nccl{major}" / "libnccl.so.2", exports=exports)
        files = {
            "nvidia/nccl/lib/libnccl.so.2": library.read_bytes(),
            "nvidia/nccl/__init__.py": "",
        }
        write_wheel(folder, f"nvidia-nccl-cu{major}", version, files)


def _pack_pure(folder: Path) -> None:
    write_wheel(folder, "harmful-tools", "1.0", {"harmful_tools.py": ""}, requires=["torch==2.4.1"])
    write_wheel(folder, "middle-tools", "1.0", {"middle_tools.py": ""}, requires=["harmful-tools"])
    write_wheel(folder, "deep-tools", "1.0", {"deep_tools.py": ""}, requires=["middle-tools"])
    write_wheel(
        folder,
        "sneaky-tools",
        "1.0",
        {"sneaky_tools.py": ""},
        requires=["typing-extensions==3.6.6"],
    )
    write_wheel(
        folder, "xgboost", "3.2.0", {"xgboost/__init__.py": ""}, requires=["nvidia-nccl-cu12"]
    )
    write_wheel(
        folder,
        "scatter-user",
        "1.0",
        {"scatter_user.py": "import torch_scatter\n"},
        requires=["torch-scatter"],
    )
    for version in ("1.26.4", "2.0.0"):
        code = f"__version__ = {version!r}\n" + (PACKAGES / "numpy" / "__init__.py").read_text()
        write_wheel(folder, "numpy", version, {"numpy/__init__.py": code})
    write_wheel(folder, "typing-extensions", "3.6.6", {"typing_extensions.py": "Text = str\n"})
    write_wheel(
        folder, "typing-extensions", "4.7.1", {"typing_extensions.py": "Literal = Text = str\n"}
    )


# --- shared objects -------------------------------------------------------------------------------


def _build_torch(torch: Torch, folder: Path) -> Dict[str, Path]:
    """torch's libraries by file name, linked against each other; libnccl.so.2 is only linked
    against."""
    made: Dict[str, Path] = {}

    def link(
        name: str,
        *needs: str,
        exports: Sequence[str] = (),
        wants: Sequence[str] = (),
        source: str = "",
    ) -> None:
        wanted = [made[need] for need in needs]
        made[name] = _link(folder / name, exports=exports, wants=wants, needs=wanted, source=source)

    link("libc10.so", exports=[torch.symbol, ABI_SYMBOLS[torch.cxx11_abi]])
    link("libtorch_cpu.so", "libc10.so", exports=[f"{torch.symbol}_cpu"], wants=[torch.symbol])
    cuda: List[str] = []
    if torch.cuda:
        count = (
            f"#define BUILT_FOR {torch.cuda.split('.')[0]}\n"
            + (PACKAGES / "device_count.c").read_text()
        )
        link("libc10_cuda.so", "libc10.so", source=count)
        nccl = ["libnccl.so.2"] if torch.nccl else []
        if nccl:
            link("libnccl.so.2", exports=["ncclInit", "ncclCommResume"])
        wants = ["ncclCommResume"] if nccl else []
        link(
            "libtorch_cuda.so",
            "libc10_cuda.so",
            "libtorch_cpu.so",
            *nccl,
            exports=[f"{torch.symbol}_cuda"],
            wants=wants,
        )
        cuda = ["libc10_cuda.so", "libtorch_cuda.so"]
    link("libtorch.so", "libtorch_cpu.so", *cuda)
    link(
        "libtorch_python.so",
        "libtorch.so",
        "libtorch_cpu.so",
        "libc10.so",
        *cuda,
        exports=["THPVariable_Wrap"],
    )
    return made


def _some(libraries: Mapping[str, Path], *names: str) -> List[Path]:
    return [libraries[f"lib{name}.so"] for name in names]


def _link(
    target: Path,
    *,
    exports: Sequence[str] = (),
    wants: Sequence[str] = (),
    needs: Sequence[Path] = (),
    source: str = "",
) -> Path:
    """A library that exports and calls the named functions, and looks where the real ones look."""
    target.parent.mkdir(parents=True, exist_ok=True)
    calls = "".join(f" + {name}()" for name in wants)
    code = [
        source,
        *(f"int {name}(void) {{ return 1; }}" for name in exports),
        *(f"extern int {name}(void);" for name in wants),
    ]
    code.append(
        f"int use_{target.name.split('.')[0].replace('-', '_')}(void) {{ return 0{calls}; }}"
    )
    command = [
        "cc",
        "-shared",
        "-fPIC",
        "-w",
        "-s",
        "-x",
        "c",
        "-",
        "-x",
        "none",
        "-o",
        str(target),
    ]
    command += [f"-Wl,-soname,{target.name}", "-Wl,--no-as-needed,--allow-shlib-undefined"]
    command += ["-Wl,-rpath,$ORIGIN:$ORIGIN/../../nvidia/nccl/lib", *map(str, needs), "-ldl"]
    subprocess.run(command, input="\n".join(code), text=True, check=True)
    return target
