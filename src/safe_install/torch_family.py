"""Knows by their names which distributions belong to torch. Pure."""

from __future__ import annotations

from packaging.utils import NormalizedName, canonicalize_name

TORCH = canonicalize_name("torch")
# Projects whose wheels are built against one version of torch.
COMPANIONS = frozenset(
    canonicalize_name(name) for name in ("torchvision", "torchaudio", "torchtext")
)
# The compilers that torch uses; all of them are the module `triton`.
COMPILERS = frozenset(
    canonicalize_name(name)
    for name in (
        "triton",
        "pytorch-triton",
        "pytorch-triton-rocm",
        "pytorch-triton-xpu",
        "triton-rocm",
        "triton-xpu",
    )
)
# The libraries that torch loads.
LIBRARY_PREFIXES = ("nvidia-", "cuda-bindings", "cuda-toolkit")


def is_guarded(name: NormalizedName) -> bool:
    """Is it torch, a companion, a compiler or a library of torch? These change only together."""
    return name in COMPANIONS or is_library_of_torch(name)


def is_library_of_torch(name: NormalizedName) -> bool:
    """Is it torch, a compiler or a library of torch? False for companions, which are built against
    torch."""
    return name == TORCH or name in COMPILERS or name.startswith(LIBRARY_PREFIXES)
