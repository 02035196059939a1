"""A changing command in a step of Slurm: what each rank does, says and ends with."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest

from safe_install import errors
from safe_install.cli import main as cli
from safe_install.cli import ranks
from safe_install.models import Action, Environment, InstallResult, Outcome, Plan, Step
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.ranks import Record, hash_of_command, parse_rank
from safe_install.transaction.rendezvous import Rendezvous
from tests.factories import make_distribution, make_environment, make_interpreter
from tests.small_environment import SmallEnvironment
from tests.unit.transaction.test_swap import leave_swapped

WORDS = ["install", "six"]
STEP = {"SLURM_JOB_ID": "42", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_NODEID": "0"}


class Here:
    """An environment in which ranks meet; what is installed is what a test says."""

    def __init__(self, prefix: Path, patch: pytest.MonkeyPatch) -> None:
        self.prefix, self._patch = prefix, patch
        self.environment = make_environment(interpreter=make_interpreter(prefix=prefix))
        self.calls: List[str] = []
        self.answer: Callable[[], Any] = self.install_six
        self.verified = InstallResult("verify", Outcome.HEALTHY, 0)
        patch.setattr(ranks, "_read", lambda invocation: self.environment)
        patch.setattr(ranks, "defaults_to_user_site", lambda environment: False)
        patch.setitem(cli.COMMANDS, "verify", self._verify)

    def install_six(self) -> InstallResult:
        self.have("six", "1")
        step = Step(Action.ADD, "six", "1", because="requested")  # type: ignore[arg-type]
        return InstallResult("install", Outcome.INSTALLED, 0, plan=Plan((step,)))

    def have(self, name: str, version: str) -> None:
        """It is installed from now on."""
        folder = self.prefix / f"{name}-{version}.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "RECORD").write_text(f"{name}.py,sha256={version},1\n")
        one = make_distribution(name, version, metadata_path=folder, location=self.prefix)
        self.environment = dataclasses.replace(
            self.environment, installed={**self.environment.installed, one.name: one}
        )

    def _run(self, invocation: Any, reporter: Any) -> Any:
        self.calls.append("change")
        return self.answer()

    def _verify(self, invocation: Any, reporter: Any) -> Any:
        self.calls.append(" ".join(("verify", *invocation.arguments)))
        return self.verified

    def rank(self, number: int, *words: str, **variables: str) -> int:
        """One rank from beginning to end; its exit status."""
        for name, text in {**STEP, "SLURM_PROCID": str(number), **variables}.items():
            self._patch.setenv(name, text)
        return cli.main(list(words or WORDS), dict.fromkeys(cli.OUR_COMMANDS, self._run))

    def meeting(self, *words: str) -> Rendezvous:
        """That of these words."""
        rank = parse_rank({**STEP, "SLURM_PROCID": "1"})
        assert rank is not None
        return Rendezvous(self.prefix, hash_of_command(rank, words or WORDS))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(ranks, "poll_interval", lambda count: 0.01)
    return Here(tmp_path, monkeypatch)


def test_the_first_leads_and_the_others_look_at_their_node(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.rank(2) == 0
    assert here.rank(0) == 0
    assert here.rank(1) == 0
    assert here.calls == ["change"]  # there is no torch to ask
    words = capsys.readouterr().out
    assert f"rank 2 on {os.uname().nodename} made the change in {here.prefix}" in words


def with_torch(environment: Environment) -> Environment:
    return dataclasses.replace(environment, torch=make_environment(torch="2.13.0+cpu").torch)


@pytest.mark.parametrize("status", [0, 1])
def test_each_ends_with_the_health_of_its_node(
    here: Here, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    here.environment = with_torch(here.environment)
    outcome = Outcome.UNHEALTHY if status else Outcome.HEALTHY
    here.verified = InstallResult("verify", outcome, status)
    words = ("install", "six", "--require-cuda", "--check-timeout", "60")
    assert here.rank(0, *words) == 0
    assert here.rank(1, *words) == status
    assert here.calls == ["change", "verify --require-cuda --check-timeout 60"]
    told = "not healthy" if status else "healthy"
    assert f"{os.uname().nodename} is {told} with it." in capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str]) -> Dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out))


def test_the_document_names_the_role(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    here.rank(2, *WORDS, "--json")
    common = {"of": 4, "node": 0, "step": "job 42, step 0", "leader": 2}
    assert document(capsys)["details"]["rank"] == {"number": 2, "role": "leader", **common}
    here.rank(3, *WORDS, "--json")
    told = document(capsys)
    assert told["details"]["rank"] == {"number": 3, "role": "follower", **common}
    assert (told["command"], told["outcome"]) == ("install", "healthy")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (errors.NoCandidate("nothing fits"), 10, "nothing fits"),
        (errors.PipFailed("pip has failed"), 1, "pip has failed"),
        (errors.RollBackFailed("half"), 13, "half"),
        (errors.Interrupted("ended", signal_number=15), 143, "ended"),
        (KeyboardInterrupt(), 130, "KeyboardInterrupt"),
        (OSError(28, "No space left"), 1, "No space left"),
        (ZeroDivisionError("a mistake"), 1, "a mistake"),
    ],
)
def test_the_failure_of_one_is_that_of_all(
    here: Here,
    error: BaseException,
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    here.answer = fail
    assert here.rank(0) == status
    capsys.readouterr()
    assert here.rank(1, *WORDS) == status
    assert here.calls == ["change"]
    told = capsys.readouterr().err
    assert f"rank 0 on {os.uname().nodename} did not change {here.prefix}: " in told
    assert message in told


def test_what_was_rolled_back_failed_for_all(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    here.answer = lambda: InstallResult("install", Outcome.ROLLED_BACK, 12, message="CUDA was lost")
    assert here.rank(3, *WORDS, "--json") == 12
    capsys.readouterr()
    assert here.rank(0, *WORDS, "--json") == 12
    told = document(capsys)
    assert told["error"]["code"] == "leader-failed"
    assert "CUDA was lost" in told["error"]["message"]
    assert told["details"]["rank"]["leader"] == 3


def test_the_same_words_once_more_are_led_by_the_same_rank(here: Here) -> None:
    """`until safe-install six; do sleep 5; done` in every rank."""

    def fail() -> None:
        raise errors.PipFailed("not yet")

    here.answer = fail
    assert [here.rank(0), here.rank(1)] == [1, 1]
    here.answer = here.install_six
    assert [here.rank(0), here.rank(1)] == [0, 0]
    assert here.calls == ["change", "change"]


def test_a_leader_that_ended_without_a_word(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    here.meeting().write(Record(0, "node0"))
    assert here.rank(1) == 1
    assert "rank 0 on node0 did not change" in capsys.readouterr().err
    record, _ = here.meeting().read()
    assert record is not None
    assert (record.leader, record.status) == (0, 1)
    assert here.rank(2) == 1
    assert here.calls == []
    assert here.rank(0) == 0  # it was started once more


def test_what_a_leader_that_was_killed_had_begun_is_undone(here: Here) -> None:
    env = SmallEnvironment(here.prefix)
    env.install("other", "1", {"other.py": ""})
    with lock_environment(env.prefix):
        leave_swapped(env)
    assert (env.site / "p" / "a.py").read_text() == "2"
    here.meeting().write(Record(0, "node0"))
    assert here.rank(1) == 1
    assert (env.site / "p" / "a.py").read_text() == "1"
    assert env.find_unfinished() == []


def test_no_password_is_written_down(here: Here) -> None:
    def fail() -> None:
        raise ValueError("https://me:secret@index.example/simple does not answer")

    here.answer = fail
    words = ["install", "-i", "https://me:secret@index.example/simple", "six"]
    assert here.rank(0, *words) == 1
    for path in (here.prefix / ".safe-install").iterdir():
        assert "secret" not in path.read_text()
    record, _ = here.meeting(*words).read()
    assert record is not None
    assert "index.example" in record.message


def test_a_leader_that_is_alive_is_waited_for_and_not_longer_than_told(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    leader = here.meeting()
    assert leader.take_lock()
    leader.write(Record(0, "node0"))
    assert here.rank(1, SAFE_INSTALL_RANK_TIMEOUT="1") == 14
    told = capsys.readouterr().err
    assert f"waiting for rank 0 on node0, which changes {here.prefix} for all" in told
    assert "waited 1 s for rank 0 on node0" in told
    assert "SAFE_INSTALL_RANK_TIMEOUT=3h" in told


def test_a_leader_that_gives_no_sign_of_life(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On another host, where its lock tells nothing."""
    silent = ranks.Watch(seconds=0.1, looks=3)
    monkeypatch.setattr(ranks, "Watch", lambda: silent)
    leader = here.meeting()
    assert leader.take_lock()
    leader.write(Record(0, "node0"))
    assert here.rank(1) == 1
    assert "gives no sign of life any more" in capsys.readouterr().err


def test_another_step_at_work_is_waited_for(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    other = here.meeting("install", "other")
    assert other.take_lock()
    assert here.rank(1, SAFE_INSTALL_RANK_TIMEOUT="1") == 14
    assert "waiting for another rank or step" in capsys.readouterr().err
    other.release_lock()
    assert here.rank(1) == 0
    assert here.calls == ["change"]


def test_a_node_that_does_not_see_the_change(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host may show an old state of a served folder for a while."""
    assert here.rank(0) == 0
    changed = here.environment
    here.environment = dataclasses.replace(changed, installed={})
    looks: List[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        here.environment = changed

    monkeypatch.setattr(ranks.time, "sleep", sleep)
    assert here.rank(1) == 0
    assert looks == [1.0]
    assert "does not see the change yet" in capsys.readouterr().err
    here.have("six", "2")
    monkeypatch.setattr(ranks, "_SEEING_LIMIT", 0.0)
    assert here.rank(2) == 1
    assert "does not see six as rank 0 on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["install", "--dry-run", "six"], {}),
        (["install", "six"], {"SAFE_INSTALL_DRY_RUN": "1"}),
        (["install", "six"], {"PIP_DRY_RUN": "1"}),
        (["install", "--target", "/x", "six"], {}),
        (["sync", "--check", "f"], {}),
        (["undo", "20261129T225433Z-3f2a"], {}),
        (["stage", "six"], {}),
        (["commit", "x"], {}),
        (["recover"], {}),
        (["verify"], {}),
        (["explain", "six"], {}),
        (["install", "six"], {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}),
    ],
)
def test_what_every_rank_does_by_itself(
    here: Here, words: List[str], variables: Dict[str, str]
) -> None:
    assert here.rank(1, *words, **variables) == 0
    assert here.rank(2, *words, **variables) == 0
    assert here.calls == ["change", "change"]
    assert not (here.prefix / ".safe-install").exists()


@pytest.mark.parametrize(
    ("words", "meets"), [(["six"], False), (["--break-system-packages", "six"], True)]
)
def test_the_systems_own_is_refused_by_the_command_itself(
    here: Here, words: List[str], meets: bool
) -> None:
    """Nothing is made in /usr for it."""
    interpreter = make_interpreter(prefix=here.prefix, externally_managed="use apt")
    here.environment = make_environment(interpreter=interpreter)
    here.rank(1, "install", *words)
    assert (here.prefix / ".safe-install").exists() is meets


def test_ranks_with_user_meet_in_the_user_base(here: Here, tmp_path: Path) -> None:
    base = tmp_path / "home"
    interpreter = make_interpreter(
        prefix=here.prefix, user_base=base, user_scheme=make_interpreter().scheme
    )
    here.environment = make_environment(interpreter=interpreter)
    assert here.rank(1, "install", "--user", "six") == 0
    assert list((base / ".safe-install").glob("step-*.json"))


def test_a_change_that_was_made_stays_made_where_nothing_can_be_asked_any_more(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install() -> InstallResult:
        monkeypatch.setattr(ranks, "_read", fail)
        return here.install_six()

    def fail(invocation: Any) -> Environment:
        raise errors.ProbeFailed("the interpreter does not start")

    here.answer = install
    assert here.rank(0) == 0
    record, _ = here.meeting().read()
    assert record is not None
    assert (record.status, record.seen) == (0, {})


def test_a_change_that_was_made_stays_made_where_the_others_cannot_be_told(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Rendezvous.write

    def write(meeting: Rendezvous, record: Record) -> None:
        if record.status is not None:
            raise errors.Refused("the disk is full")
        real(meeting, record)

    monkeypatch.setattr(Rendezvous, "write", write)
    assert here.rank(0) == 0
    assert "the other ranks could not be told: the disk is full" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "status"), [("soon", 2), ("0", 0), ("90m", 0), ("", 0)])
def test_the_limit_as_it_is_written(
    here: Here, text: Optional[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.rank(1, SAFE_INSTALL_RANK_TIMEOUT=str(text)) == status
    refused = f"SAFE_INSTALL_RANK_TIMEOUT {text}: not a duration"
    assert (refused in capsys.readouterr().err) == (status == 2)
