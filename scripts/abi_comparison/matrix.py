"""What is measured: the builds of torch, the extension wheels, and what both need to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple

from packaging.utils import canonicalize_name

TORCHES = ("2.1.2", "2.3.1", "2.5.1", "2.8.0", "2.9.1", "2.11.0", "2.13.0+cpu")
MAX_WHEEL = 150 * 1024 * 1024  # bytes: larger extension wheels are left out
PLATFORMS = (
    "manylinux1_x86_64",
    "manylinux2014_x86_64",
    *(f"manylinux_2_{minor}_x86_64" for minor in range(5, 36)),
    "linux_x86_64",
)
# Without these, torch or most extensions do not import.
BASE = (
    "numpy==1.26.4",
    *(
        "typing_extensions==4.15.0",
        "sympy==1.13.1",
        "mpmath==1.3.0",
        "networkx==3.4.2",
        "jinja2==3.1.6",
    ),
    *(
        "markupsafe==3.0.2",
        "fsspec==2025.3.0",
        "filelock==3.18.0",
        "packaging==25.0",
        "pillow==11.3.0",
    ),
    *(
        "requests==2.32.5",
        "urllib3==2.5.0",
        "idna==3.10",
        "certifi==2025.8.3",
        "charset-normalizer==3.4.3",
    ),
    *(
        "tqdm==4.67.1",
        "psutil==7.0.0",
        "scipy==1.15.3",
        "pyyaml==6.0.2",
        "cloudpickle==3.1.1",
        "optree==0.17.0",
    ),
    *(
        "importlib_metadata==8.7.0",
        "zipp==3.23.0",
        "orjson==3.11.3",
        "graphviz==0.21",
        "setuptools==80.9.0",
    ),
    *(
        "pandas==2.2.3",
        "pytz==2025.2",
        "python-dateutil==2.9.0.post0",
        "six==1.17.0",
        "tzdata==2025.2",
    ),
)


@dataclass(frozen=True)
class Wheel:
    """An extension wheel of the matrix."""

    spec: str
    imports: str = ""  # the module that proves that it is there; the project's name where empty
    companions: Tuple[str, ...] = ()  # other wheels that it needs

    @property
    def project(self) -> str:
        return canonicalize_name(self.spec.partition("==")[0])

    @property
    def module(self) -> str:
        return self.imports or self.project.replace("-", "_")


def many(project: str, versions: str, imports: str = "", *companions: str) -> List[Wheel]:
    return [Wheel(f"{project}=={version}", imports, companions) for version in versions.split()]


WHEELS: Tuple[Wheel, ...] = (
    *many("torchvision", "0.16.2 0.18.1 0.20.1 0.23.0 0.24.1 0.26.0 0.28.0"),
    *many("torchaudio", "2.1.2 2.3.1 2.5.1 2.8.0 2.9.1 2.11.0"),
    *many("torchtext", "0.16.2 0.18.0", "", "torchdata==0.7.1"),
    *many("torchcodec", "0.1.1 0.5 0.7.0 0.13.0"),
    *many("torchao", "0.7.0 0.12.0 0.15.0 0.18.0"),
    *many("xformers", "0.0.28.post3 0.0.32.post1 0.0.35"),
    Wheel("torchrl==0.4.0", companions=("tensordict==0.4.0",)),
    Wheel("torchrl==0.6.0", companions=("tensordict==0.6.2",)),
    Wheel("torchrl==0.10.0", companions=("tensordict==0.10.0", "pyvers==0.1.0")),
    Wheel("torchrl==0.14.1", companions=("tensordict==0.10.0", "pyvers==0.1.0")),
    Wheel("tensordict==0.4.0"),
    Wheel("tensordict==0.10.0", companions=("pyvers==0.1.0",)),
    Wheel("torchopt==0.7.3"),
    *many("fbgemm-gpu-cpu", "1.0.0 1.2.0 1.4.2", "fbgemm_gpu"),
    Wheel("dgl==2.1.0", companions=("torchdata==0.7.1",)),
    Wheel(
        "metatensor-torch==0.10.8",
        "metatensor.torch",
        ("metatensor-core==0.2.6", "ctypes-dlpack==0.1.1"),
    ),
    Wheel(
        "metatomic-torch==0.1.19",
        "metatomic.torch",
        ("metatensor-torch==0.10.8", "metatensor-core==0.2.6", "ctypes-dlpack==0.1.1", "vesin"),
    ),
    Wheel("sphericart-torch==2.0.4", "sphericart.torch", ("sphericart==2.0.4",)),
    Wheel("vesin-torch==0.6.2", "vesin.torch", ("vesin",)),
    Wheel("torch-c-dlpack-ext==0.1.5"),
    Wheel("torch-harmonics==0.9.3"),
    Wheel("torch-ans==0.4.0"),
    Wheel("torch-bessel==0.0.8"),
    Wheel("fairseq2n==0.8.1"),
    Wheel("executorch==1.5.1"),
    Wheel("autoawq-kernels==0.0.9", "awq_ext"),
    Wheel("bitsandbytes==0.50.2"),
)
