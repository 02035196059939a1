"""Which distributions belong to one build of torch. Pure: by their names."""

from __future__ import annotations

from packaging.utils import NormalizedName, canonicalize_name

TORCH = canonicalize_name("torch")
# Built against one torch.
COMPANIONS = frozenset(
    canonicalize_name(name) for name in ("torchvision", "torchaudio", "torchtext")
)
# What torch generates code with; all of them are the module `triton`.
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
# What torch loads.
LIBRARY_PREFIXES = ("nvidia-", "cuda-bindings", "cuda-toolkit")


def is_guarded(name: NormalizedName) -> bool:
    """Does this distribution move with torch? Moving one of them moves torch in all but name."""
    return name in COMPANIONS or is_library_of_torch(name)


def is_library_of_torch(name: NormalizedName) -> bool:
    """Is it torch itself, its compiler, or a library that torch loads? Nothing that is built
    against torch."""
    return name == TORCH or name in COMPILERS or name.startswith(LIBRARY_PREFIXES)
