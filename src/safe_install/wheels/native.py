"""Does a wheel's native code use torch? Known without an index entry, from the names of the libraries that it needs."""

from __future__ import annotations

import zipfile

from safe_install.wheels.archive import Artifact

# torch's own libraries; an extension names at least one of them in its dynamic section.
TORCH_LIBRARIES = (b"libtorch.so", b"libtorch_cpu.so", b"libtorch_python.so", b"libc10.so", b"libtorch_cuda.so")
MAX_READ = 400 * 1024 * 1024  # bytes of native code that are looked through
_CHUNK = 1024 * 1024
_OVERLAP = 32  # bytes: a name may lie across two chunks


def links_torch(artifact: Artifact) -> bool:
    """True when one of the wheel's shared objects names a library of torch."""
    left = MAX_READ
    with zipfile.ZipFile(artifact.path) as archive:
        for name in artifact.native_objects:
            left -= archive.getinfo(name).file_size
            if left < 0:
                return False
            with archive.open(name) as stream:
                tail = b""
                while True:
                    chunk = stream.read(_CHUNK)
                    if not chunk:
                        break
                    if any(library in tail + chunk for library in TORCH_LIBRARIES):
                        return True
                    tail = chunk[-_OVERLAP:]
    return False
