# The stand-in torch: what an installer can look at, and just enough to compute.
import ctypes
import os
import types

from . import _build
from .version import __version__ as __version__

if _build.NEEDS_LITERAL:
    from typing_extensions import Literal  # noqa: F401

_lib = os.path.join(os.path.dirname(__file__), "lib")
for _name in _build.LIBRARIES:
    ctypes.CDLL(os.path.join(_lib, _name), mode=ctypes.RTLD_GLOBAL)

from . import cuda  # noqa: E402, F401
from ._tensor import from_numpy, ones, tensor  # noqa: E402, F401

_C = types.SimpleNamespace(_GLIBCXX_USE_CXX11_ABI=_build.CXX11_ABI)
ops = types.SimpleNamespace(load_library=lambda path: ctypes.CDLL(path))


def compiled_with_cxx11_abi():
    return _C._GLIBCXX_USE_CXX11_ABI
