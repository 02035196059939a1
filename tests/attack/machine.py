"""The state machine: each rule is one command, attack or accident; each checks the promises that
hold after it.

1. torch is the same, version and bytes, unless it was named.
2. A command that ends with another status than 0 leaves the tree as it was.
3. One that ends with 0 leaves RECORDs that are true, and no file that no RECORD lists.
4. After a kill, of a recovery too, `recover` ends, and the tree is that of before or of after; in a
   copy, too.
5. Nothing is left unfinished, and nothing outside of the environment changes.
6. Undoing everything leads back to the beginning, if nobody else changed something.
"""

from __future__ import annotations

import errno
import random
import time
from collections import Counter
from typing import Any, List, Optional, Sequence, Set, Tuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.attack.ground import Ground, Tree, torch_in
from tests.attack.wheels import FEATURES, write_hostile_wheel
from tests.treehash import read_tree

REQUIREMENTS = [
    "alpha",
    "alpha==1",
    "alpha==2",
    "beta",
    "gamma==1",
    "gamma==2",
    "gamma",
    "piped==1",
]
NAMES = ["alpha", "beta", "gamma", "piped", "hostile0", "hostile1", "hostile2"]
SEEDS = st.integers(0, 2**32 - 1)


def choose_moment(seed: int) -> float:
    """From 0 to 1, half of them near the end, where the renames are. Hypothesis itself prefers 0
    and 1."""
    generator = random.Random(seed)
    return generator.uniform(0.75, 1.0) if generator.random() < 0.5 else generator.random()


MOMENTS = SEEDS.map(choose_moment)
CHANGES = st.one_of(
    st.lists(
        st.sampled_from(REQUIREMENTS),
        min_size=1,
        max_size=2,
        unique_by=lambda text: text.split("=")[0],
    ).map(lambda found: ("install", *found)),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True).map(
        lambda found: ("uninstall", "-y", *found)
    ),
    st.just(("undo",)),
    st.just(("install", "-U", "alpha", "gamma")),
    st.sampled_from(
        [("install", "torch==2.4.1"), ("install", "--allow-torch-change", "torch==1.8.1+cu111")]
    ),
)


HOSTILE = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["1", "2"]),
    st.lists(st.sampled_from(sorted(FEATURES)), min_size=0, max_size=3, unique=True),
    st.booleans(),
)
FEWEST_STEPS = 4  # of an attack, however slow the machine is


class Attack(RuleBasedStateMachine):
    """One sequence. `ground`, `deadline` and `counts` are set on the class by whoever runs it."""

    ground: Ground
    deadline: float
    counts: Counter[str]
    features: Counter[str]
    has_real_torch = False  # then nothing may replace it: the index has stand-ins only

    def __init__(self) -> None:
        super().__init__()
        self.log: List[str] = []

    @initialize()
    def begin(self) -> None:
        """A fresh environment."""
        if self.is_over():
            return
        self.ground.begin()
        self.start = self.ground.tree()
        self.known = set(self.start)
        self.site = self.ground.site.relative_to(self.ground.prefix).as_posix()
        self.torch = torch_in(self.start, self.site)
        self.torches = [self.torch]  # what it was and may be again by an undo
        self.tree = self.start
        self.is_foreign = False  # another installer has changed something
        self.counts["sequences"] += 1

    def choose(self, words: Tuple[str, ...]) -> Tuple[str, ...]:
        """The command itself, or a harmless one in the place of one that would replace a real
        torch."""
        replaces = any(word.startswith("torch==") for word in words)
        return ("install", "alpha") if self.has_real_torch and replaces else words

    def is_over(self) -> bool:
        """The time is up: what is left of the sequence is left out. A slow machine makes some steps
        all the same."""
        return self.counts["steps"] >= FEWEST_STEPS and time.monotonic() > self.deadline

    # --- the steps --------------------------------------------------------------------------------

    @rule(words=CHANGES)
    def change(self, words: Tuple[str, ...]) -> None:
        """An ordinary command."""
        words = self.choose(words)
        if not self.is_over():
            self.step("change", words)
            self.judge(self.ground.run(*words), words)

    @rule(wheels=st.lists(HOSTILE, min_size=1, max_size=3))
    def hostile_wheels(self, wheels: Sequence[Tuple[int, str, Sequence[str], bool]]) -> None:
        """Wheels of the grammar, one after the other."""
        for wheel in wheels:
            self.install_hostile(*wheel)

    @rule(wheel=HOSTILE)
    def hostile_wheel(self, wheel: Tuple[int, str, Sequence[str], bool]) -> None:
        """One wheel of the grammar."""
        self.install_hostile(*wheel)

    def install_hostile(
        self, number: int, version: str, features: Sequence[str], is_named: bool
    ) -> None:
        """By its path, or (without the promise) by its name from a folder."""
        if self.is_over():
            return
        ground = self.ground
        folder = ground.wheels / f"{self.counts['hostile']}"
        wheel = write_hostile_wheel(folder, number, version, features, python=ground.python)
        by_name = ("install", "-f", str(folder), f"hostile{number}=={version}")
        words = by_name if is_named else ("install", str(wheel))
        self.step("hostile", (*words, *features))
        self.features.update(features)
        done = ground.run(*words)
        self.counts[
            "hostile wheels installed" if done.returncode == 0 else "hostile wheels refused"
        ] += 1
        # 2: as pip, whose own parser failed; 15: the wheel's .pth ends Python
        self.judge(done, words, statuses=(0, 1, 2, 10, 11, 12, 15))

    @rule(words=CHANGES, moment=MOMENTS, recoveries=st.lists(MOMENTS, max_size=3), seed=SEEDS)
    def kill(
        self, words: Tuple[str, ...], moment: float, recoveries: Sequence[float], seed: int
    ) -> None:
        """SIGKILL, perhaps of the recoveries too."""
        if self.is_over():
            return
        words = self.choose(words)
        self.step("kill", (*words, f"{moment:.3f}", *(f"{one:.3f}" for one in recoveries)))
        generator = random.Random(seed)
        before = self.ground.history()
        self.ground.kill(words, moment, generator)
        for one in recoveries:
            self.counts["killed recoveries"] += 1
            self.ground.kill_recovery(one)
        self.settle(generator, before, words)

    @rule(
        words=CHANGES,
        moment=MOMENTS,
        how=st.sampled_from(["cp -a", "tar"]),
        recoveries=st.lists(MOMENTS, max_size=2),
        seed=SEEDS,
    )
    def kill_and_copy(
        self,
        words: Tuple[str, ...],
        moment: float,
        how: str,
        recoveries: Sequence[float],
        seed: int,
    ) -> None:
        """Killed, then the whole environment is copied elsewhere, and recovered there."""
        if self.is_over():
            return
        words = self.choose(words)
        self.step("kill and copy", (*words, how, f"{moment:.3f}"))
        generator = random.Random(seed)
        before = self.ground.history()
        self.ground.kill(words, moment, generator)
        self.ground.move_to_copy(how)
        for one in recoveries:
            self.counts["killed recoveries"] += 1
            self.ground.kill_recovery(one)
        self.settle(generator, before, words)

    @rule(how=st.sampled_from(["cp -a", "tar"]))
    def copy(self, how: str) -> None:
        """The environment goes on elsewhere."""
        if not self.is_over():
            self.step("copy", (how,))
            self.ground.move_to_copy(how)
            assert self.ground.tree() == self.tree

    @rule(
        words=CHANGES,
        moment=MOMENTS,
        code=st.sampled_from([errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS]),
        sticky=st.booleans(),
        seed=SEEDS,
    )
    def fail(
        self, words: Tuple[str, ...], moment: float, code: int, sticky: bool, seed: int
    ) -> None:
        """A call of the file system fails."""
        if self.is_over():
            return
        words = self.choose(words)
        self.step("fail", (*words, errno.errorcode[code], f"{moment:.3f}", str(sticky)))
        before = self.ground.history()
        done = self.ground.fail(words, moment, code, sticky=sticky)
        assert done.returncode in (0, 1, 11, 12, 13), self.tell(done)
        if done.returncode not in (0, 13):
            # a journal by which nothing was moved may be left
            self.ground.recover(random.Random(seed))
            assert self.ground.tree() == self.tree, self.tell(done)
        self.settle(random.Random(seed), before, words)

    @rule(name=st.sampled_from(["alpha==1", "alpha==2", "piped==2", "beta"]), remove=st.booleans())
    def pip(self, name: str, remove: bool) -> None:
        """Another installer, between two of our commands."""
        if self.is_over():
            return
        words = ["uninstall", "-y", name.split("=")[0]] if remove else ["install", name]
        self.step("pip", words)
        self.ground.pip(*words)
        tree = self.ground.tree()
        self.is_foreign = self.is_foreign or tree != self.tree
        self.tree = tree
        self.check()

    @rule(words=CHANGES, delay=st.floats(0, 2.5, allow_nan=False), seed=SEEDS)
    def pip_at_once(self, words: Tuple[str, ...], delay: float, seed: int) -> None:
        """Another installer, at the same time."""
        if self.is_over():
            return
        words = self.choose(words)
        self.step("pip at once", (*words, f"{delay:.2f}"))
        status, said = self.ground.run_beside_pip(words, ("install", "piped==2"), delay)
        assert status in (0, 1, 10, 11, 12, 13), f"{status} {said}\n{self.tell_log()}"
        self.is_foreign = True
        if status == 13:
            # What pip did is in the way of the roll back: that is said, and nothing was touched.
            self.counts["13 beside pip"] += 1
            self.ground.begin()
            self.begin_again()
            return
        self.ground.recover(random.Random(seed))
        self.tree = self.ground.tree()
        self.check(words)

    def begin_again(self) -> None:
        """A fresh environment within a sequence."""
        self.tree = self.start
        self.torch = self.torches[0]
        self.is_foreign = False

    def teardown(self) -> None:
        """Undo everything: that is the beginning."""
        if not hasattr(self, "tree") or self.is_over() or self.is_foreign:
            return
        for _ in range(30):
            done = self.ground.run("undo")
            if done.returncode == 11 and "nothing to undo" in done.stderr:
                break
            assert done.returncode == 0, f"undo of all: {self.tell(done)}"
        assert self.ground.tree() == self.start, (
            f"undo of all does not lead back\n{self.tell_log()}"
        )
        self.counts["undone to the beginning"] += 1

    # --- what must hold ---------------------------------------------------------------------------

    def step(self, kind: str, words: Sequence[str]) -> None:
        """Count and remember."""
        self.counts["steps"] += 1
        self.counts[kind] += 1
        self.log.append(f"{kind}: {' '.join(words)}")

    def tell_log(self) -> str:
        """The sequence until now."""
        return "\n".join(self.log)

    def tell(self, done: Any) -> str:
        """A run and what led to it."""
        return f"exit status {done.returncode}\n{done.stdout}{done.stderr}\n{self.tell_log()}"

    def judge(
        self, done: Any, words: Sequence[str], statuses: Sequence[int] = (0, 1, 10, 11, 12)
    ) -> None:
        """Does the exit status agree with the tree?"""
        assert done.returncode in statuses, self.tell(done)
        assert "Traceback" not in done.stderr or "safe_install/" not in done.stderr, self.tell(done)
        tree = self.ground.tree()
        self.counts[f"status {done.returncode}"] += 1
        if done.returncode != 0:
            assert tree == self.tree, f"{describe_difference(self.tree, tree)}\n{self.tell(done)}"
        else:
            self.check_versions(words, done)
        self.tree = tree
        self.check(words)

    def check_versions(self, words: Sequence[str], done: Any) -> None:
        """What was asked for is there, or gone."""
        versions = self.ground.versions()
        for word in words[1:]:
            name, _, version = word.partition("==")
            if words[0] == "install" and version:
                assert versions.get(name) == version, self.tell(done)
            elif words[0] == "uninstall" and not word.startswith("-"):
                assert name not in versions, self.tell(done)

    def settle(self, generator: random.Random, history: Set[str], words: Sequence[str]) -> None:
        """Recover, as often as it takes an accident: before or after."""
        done = self.ground.recover(generator)
        assert done.returncode == 0, self.tell(done)
        tree = self.ground.tree()
        is_kept = self.ground.history() != history
        self.counts["kept" if is_kept else "taken back"] += 1
        if not is_kept:
            assert tree == self.tree, f"{describe_difference(self.tree, tree)}\n{self.tell(done)}"
        self.tree = tree
        self.check(words)

    def check(self, words: Sequence[str] = ()) -> None:
        """The invariants, after the command `words` of ours."""
        told = self.tell_log()
        torch = torch_in(self.tree, self.site)
        if torch != self.torch:
            is_named = any(word.startswith("torch==") for word in words)
            assert is_named or ("undo" in words and torch in self.torches), (
                f"torch is another\n{told}"
            )
            self.torch = torch
            self.torches.append(torch)
        assert self.ground.unfinished() == [], f"left: {self.ground.unfinished()}\n{told}"
        for path in self.start:
            if not path.startswith(self.site):
                assert self.tree.get(path) == self.start[path], f"{path} was changed\n{told}"
        assert self.ground.beside == read_canary(self.ground), f"the canary was changed\n{told}"
        if not self.is_foreign:
            assert self.ground.read_wrong_records() == [], told
            assert self.ground.read_unrecorded(self.tree, self.known) == [], told


def read_canary(ground: Ground) -> Tree:
    return read_tree(ground.canary)


def describe_difference(before: Tree, after: Tree) -> str:
    """The paths that differ."""
    paths = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    return "changed: " + ", ".join(
        f"{path} ({kind_of(before, path)} -> {kind_of(after, path)})" for path in paths[:10]
    )


def kind_of(tree: Tree, path: str) -> Optional[str]:
    return str(tree[path][0]) if path in tree else None
