"""One torch: its environment, what the check says there of each wheel, and what really happens."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
import venv
from collections import Counter
from pathlib import Path
from typing import List, Mapping, Sequence, Tuple

from packaging.utils import canonicalize_name

from abi_comparison.loader import Loader
from abi_comparison.matrix import BASE, MAX_WHEEL, WHEELS, Wheel
from abi_comparison.results import (
    Build,
    Object,
    Pair,
    expected_kind,
    names_the_same,
    patterns_of,
    real_of_wheel,
)
from abi_comparison.wheels import (
    Store,
    is_of_torch,
    libraries_of,
    link_tree,
    remove,
    requirements_of,
    unpack,
)
from safe_install.environment.interpreter import read_environment
from safe_install.health.examination import Examination
from safe_install.index.catalog import known_projects, load_project
from safe_install.models import Environment, TorchBuild
from safe_install.wheels.abi import LoadOutcome, ObjectVerdict, judge_wheel
from safe_install.wheels.inspection import Inspector, demangle, needs_of


def make_environment(version: str, store: Store) -> Path:
    folder = store.cache / "builds" / version
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    wheel = store.wheel(f"torch=={version}")
    if wheel is None:
        raise SystemExit(f"pip has no torch {version}")
    wheels = [wheel, *libraries_of(wheel, store)]
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    site = folder / "lib" / "python3.11" / "site-packages"
    for one in wheels:
        unpack(one, site, is_wanted=is_of_torch)
    for spec in BASE:
        found = store.wheel(spec)
        if found is not None:
            unpack(found, site)
    # Bytecode of what most extensions import, so that each child does not compile it anew.
    warm = "import torch, torch._dynamo, torch.distributed, torch.ao.quantization, torch.export, scipy.sparse, pandas"
    subprocess.run([str(folder / "bin" / "python"), "-c", warm], capture_output=True, check=False)
    (folder / "complete").touch()
    return folder


class Bench:
    """One torch, and what is tried beside it."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.store = store
        self.site = folder / "lib" / "python3.11" / "site-packages"
        self.environment: Environment = read_environment(folder / "bin" / "python", None)
        assert self.environment.torch is not None
        self.torch: TorchBuild = self.environment.torch
        self.loader = Loader(folder / "bin" / "python")
        self.preloaded = (
            Examination(self.environment.interpreter.executable, self.torch, ()).result().libraries
        )

    def own(self) -> str:
        """The check of torch's own libraries."""
        verdicts = Inspector(self.environment, self.torch, variables={}).inspect_torch(
            demangle=demangle
        )
        bad = [one for one in verdicts if one.outcome is not LoadOutcome.FITS]
        return (
            "; ".join(f"{one.outcome.value}: {one.reason}" for one in bad) or LoadOutcome.FITS.value
        )

    def try_(self, wheel: Wheel, path: Path) -> Pair:
        tree = self.store.tree(path)
        companions: List[Path] = []
        for spec in wheel.companions:
            companion = self.store.wheel(spec)
            if companion is not None:
                companions += link_tree(self.store.tree(companion), self.site)
        stage = self.folder / "stage"
        below = stage / str(self.site).lstrip("/")
        link_tree(tree, below)
        members = {
            str(file.relative_to(tree)): str(self.site / file.relative_to(tree))
            for file in sorted(tree.rglob("*"))
            if re.search(r"\.so(\.\d+)*$", file.name)
        }
        verdicts, scope_ms, first_ms = self._predict(stage, members)
        _, _, warm_ms = self._predict(stage, members)
        shutil.rmtree(stage)
        made = link_tree(tree, self.site)
        try:
            return self._measure(wheel, path, verdicts, members, (scope_ms, first_ms, warm_ms))
        finally:
            remove([*made, *companions], self.site)

    def _predict(
        self, stage: Path, members: Mapping[str, str]
    ) -> Tuple[List[ObjectVerdict], float, float]:
        inspector = Inspector(
            self.environment,
            self.torch,
            stage=stage,
            coming=tuple(members.values()),
            variables={},
            preloaded=lambda: self.preloaded,
        )
        start = time.perf_counter()
        assert inspector.scope.shared
        middle = time.perf_counter()
        verdicts = inspector.inspect(members, demangle=demangle)
        return verdicts, (middle - start) * 1000, (time.perf_counter() - middle) * 1000

    def _measure(
        self,
        wheel: Wheel,
        path: Path,
        verdicts: Sequence[ObjectVerdict],
        members: Mapping[str, str],
        times: Tuple[float, float, float],
    ) -> Pair:
        objects = [self._load(one, members) for one in verdicts]
        verdict, ground = judge_wheel(
            verdicts, needs_of(canonicalize_name(wheel.project), verdicts)
        )
        real = real_of_wheel(objects, patterns_of(wheel.project))
        imports, words = "not tried", ""
        if real != "fails" or verdict in (LoadOutcome.FITS, LoadOutcome.UNKNOWN):
            imports, words = self._import(wheel)
        pins = [one for one in requirements_of(path) if canonicalize_name(one.name) == "torch"]
        return Pair(
            path.name,
            str(pins[0].specifier) if pins else "",
            verdict.value,
            [one.reason for one in ground if one.reason],
            real,
            imports,
            self._shorten(words),
            *times,
            objects=objects,
        )

    def _load(self, verdict: ObjectVerdict, members: Mapping[str, str]) -> Object:
        """Load one shared object."""
        siblings = {os.path.basename(final): final for final in members.values()}
        real, words, before = self.loader.load(Path(members[verdict.facts.member]), siblings)
        if real == "fails" and re.search(r"lib(cuda|nvidia-ml)\.so\.1: cannot open", words):
            real = "needs the driver"
        return Object(
            member=verdict.facts.member,
            uses_torch=verdict.facts.uses_torch,
            verdict=verdict.outcome.value,
            reason=verdict.reason,
            expected=expected_kind(verdict),
            real=real,
            words=self._shorten(words),
            is_named=names_the_same(verdict, words),
            with_siblings=bool(before),
        )

    def _import(self, wheel: Wheel) -> Tuple[str, str]:
        """Import the module, and do the operation that the wheel index has; the words of an
        error."""
        operation = (
            load_project(wheel.project).operation if wheel.project in known_projects() else None
        )
        result, words, _ = self.loader.import_(wheel.module, operation)
        names = {
            "loads": "works" if operation else "imports",
            "fails": "import fails",
            "operation": "operation fails",
        }
        return names.get(result, result), words

    def _shorten(self, words: str) -> str:
        return words.replace(f"{self.site}/", "")[:600]


def measure(version: str, store: Store, *, keep: bool) -> Build:
    start = time.time()
    folder = make_environment(version, store)
    made = time.time()
    bench = Bench(folder, store)
    libc = " ".join(part for part in bench.environment.interpreter.libc if part)
    build = Build(bench.loader.torch, platform.python_version(), libc, bench.own())
    for wheel in WHEELS:
        path = store.wheel(wheel.spec)
        if path is None or path.stat().st_size > MAX_WHEEL:
            continue
        build.pairs.append(bench.try_(wheel, path))
    bench.loader.close()
    if not keep:
        shutil.rmtree(folder)
    told = Counter((pair.verdict, pair.real) for pair in build.pairs)
    print(
        f"torch {version}: made in {made - start:.0f} s, {len(build.pairs)} wheels tried in "
        f"{time.time() - made:.0f} s"
    )
    print(
        "   ",
        ", ".join(f"{verdict}/{real} {count}" for (verdict, real), count in sorted(told.items())),
        flush=True,
    )
    return build
