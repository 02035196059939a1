"""Bundles for tests: what they say, and small ones on the disk."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from safe_install.events import Reporter
from safe_install.program_archive import hash_program
from safe_install.snapshot.bundle_file import write_bundle
from safe_install.snapshot.manifest import BundledWheel, BundleTarget, Manifest

HASH = "0123456789abcdef" * 4
PROGRAM = {"safe_install/__init__.py": b"__version__ = '0'\n", "rich/__init__.py": b"x = 1\n" * 99}
LOCK = 'lock-version = "1.0"\n'
LINUX = "manylinux_2_28_x86_64"
MADE_FOR = BundleTarget("3.11", "linux_x86_64", ("glibc", "2.28"), "2.8.0+cu126")


def wheel(filename, **fields):
    name, version = filename.split("-")[:2]
    values = {"sha256": HASH, "size": 10, "url": f"https://h.example/{filename}", **fields}
    return BundledWheel(name.lower().replace("_", "-"), version, filename, **values)


def manifest_of(*wheels, requirements=("torch-scatter",), made_for=MADE_FOR):
    return Manifest(
        tuple(requirements),
        made_for,
        tuple(wheels),
        hashlib.sha256(LOCK.encode()).hexdigest(),
        hash_program(PROGRAM),
        "0.1",
        "3.8",
        "2026-11-29",
    )


CONTENTS = {
    "torch_scatter-2.1.2+pt28cu126-cp311-cp311-linux_x86_64.whl": b"scatter" * 999,
    "numpy-2.0.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": b"numpy",
    "idna-3.1-py3-none-any.whl": b"",
}


def write(folder, *, contents=None, name="FILE.zip", left_out=(), **options):
    """A bundle of these files; its path, what it says, and its sha256. `left_out`: what is named
    alone."""
    files, wheels = {}, []
    for filename, content in sorted((CONTENTS if contents is None else contents).items()):
        files[filename] = folder / filename
        files[filename].write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        offset = None if filename in left_out else 0
        wheels.append(wheel(filename, sha256=digest, size=len(content), offset=offset))
    manifest = manifest_of(*wheels)
    path = folder / name
    sha256 = write_bundle(path, manifest, files, PROGRAM, LOCK, Reporter(), **options)
    return path, manifest, sha256


def without_offsets(manifest):
    return replace(manifest, wheels=tuple(replace(wheel, offset=0) for wheel in manifest.wheels))
