"""Wheels that pip fetched, and their files in an environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Callable, Iterable, List, Optional

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from abi_comparison.matrix import PLATFORMS


class Store:
    """Wheels, and what was unpacked of them."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        cache.mkdir(parents=True, exist_ok=True)

    def wheel(self, spec: str) -> Optional[Path]:
        """The file, fetched once; None where pip has none."""
        folder = self.cache / "wheels" / re.sub(r"[^\w.+-]+", "_", spec)
        found = sorted(folder.glob("*.whl"))
        if found:
            return found[0]
        places = [argument for name in PLATFORMS for argument in ("--platform", name)]
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
        ]
        command += ["--python-version", "3.11", *places, "--dest", f"{folder}.part", spec]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{spec}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            return None
        Path(f"{folder}.part").rename(folder)
        return next(iter(sorted(folder.glob("*.whl"))))

    def tree(self, wheel: Path) -> Path:
        """An extension wheel, unpacked once as it would lie in site-packages."""
        folder = self.cache / "unpacked" / wheel.name[: -len(".whl")]
        if not folder.is_dir():
            part = Path(f"{folder}.part")
            shutil.rmtree(part, ignore_errors=True)
            unpack(wheel, part)
            part.rename(folder)
        return folder


def unpack(
    wheel: Path, site: Path, *, is_wanted: Callable[[str], bool] = lambda name: True
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith("/") or not is_wanted(name):
                continue
            head, _, tail = name.partition("/")
            if head.endswith(".data"):
                scheme, _, tail = tail.partition("/")
                if scheme not in ("purelib", "platlib"):
                    continue
                target = site / tail
            else:
                target = site / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as written:
                shutil.copyfileobj(source, written, 1024 * 1024)


def is_of_torch(name: str) -> bool:
    """Of torch's wheels: what `import torch` and the check read."""
    return not re.search(
        r"^torch/(bin/(?!torch_shm)|test/|testing/_internal/.*/data/|share/)|\.(a|lib|bc|hip|cu)$",
        name,
    )


def requirements_of(wheel: Path) -> List[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        message = HeaderParser().parsestr(archive.read(name).decode("utf-8"))
    return [Requirement(text) for text in message.get_all("Requires-Dist", [])]


def libraries_of(wheel: Path, store: Store, extras: Iterable[str] = ("",)) -> List[Path]:
    """The wheels with NVIDIA's libraries that a wheel's metadata names, as far as they go."""
    found: List[Path] = []
    for one in requirements_of(wheel):
        name = canonicalize_name(one.name)
        if not name.startswith(("nvidia-", "cuda-toolkit")):
            continue
        if one.marker is not None and not any(
            one.marker.evaluate({"extra": extra}) for extra in extras
        ):
            continue
        path = store.wheel(f"{name}{one.specifier}")
        if path is None:
            raise SystemExit(f"{wheel.name} needs {one}, which pip does not find")
        if path not in found:
            found += [path, *libraries_of(path, store, ("", *one.extras))]
    return list(dict.fromkeys(found))


def link_tree(tree: Path, root: Path) -> List[Path]:
    """The files of a folder once more below another, without their bytes; what was there already is
    left."""
    made = []
    for path in sorted(tree.rglob("*")):
        if path.is_dir():
            continue
        target = root / path.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(path, target)
            made.append(target)
    return made


def remove(files: Iterable[Path], root: Path) -> None:
    for path in files:
        path.unlink()
        folder = path.parent
        while folder != root and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
