"""Loads its operators as the PyG extensions do: those with CUDA where they are there, else the
others."""

from pathlib import Path

import torch

_libraries = sorted(Path(__file__).parent.glob("csrc_c*.so"), reverse=True)
torch.ops.load_library(str(_libraries[0]))
doubled = torch.ops.gsplat.doubled
