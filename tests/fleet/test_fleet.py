"""`fleet` from the words to the nodes: real bundles, real environments, real processes; nodes and
controllers that die."""

from __future__ import annotations

import signal
import zipfile

import pytest

from safe_install.events import Reporter
from safe_install.models import Link
from safe_install.wheels.fetch import fetch
from tests.fleet.conftest import outcomes
from tests.unit.wheels.test_kept_wheels import Http, hash_of

ALL = ("n1", "n2")


@pytest.fixture(autouse=True)
def _left_as_they_were(fleet):
    fleet.describe()
    before = fleet.trees()
    yield
    assert fleet.trees() == before


@pytest.mark.long
def test_on_all_and_back(fleet):
    before = fleet.trees()
    done = fleet.on("install", "alpha==2", "beta")
    assert (done["exit_code"], done["outcome"]) == (0, "installed"), done
    assert outcomes(done) == dict.fromkeys(ALL, "changed")
    row = done["details"]["nodes"][0]
    assert row["before"] == {"alpha": None, "beta": None}
    assert row["after"] == {"alpha": "2", "beta": "1"}
    (group,) = done["details"]["groups"]
    assert group["nodes"] == list(ALL)
    changed = fleet.trees()
    sent = [line for line in fleet.log() if line.endswith("sent .zip")]
    assert sorted(sent) == [f"{name} sent .zip" for name in ALL]

    again = fleet.on("install", "alpha==2", "beta")
    assert (again["exit_code"], again["outcome"]) == (0, "already-satisfied"), again
    # what all of them have is not sent
    (group,) = again["details"]["groups"]
    assert group["wheels"] == []
    assert [line for line in fleet.log() if line.endswith("sent .zip")] == sent
    assert fleet.trees() == changed

    removed = fleet.on("uninstall", "alpha")
    assert (removed["exit_code"], removed["outcome"]) == (0, "uninstalled"), removed
    row = removed["details"]["nodes"][0]
    assert (row["before"], row["after"]) == ({"alpha": "2"}, {"alpha": None})
    assert fleet.run("undo")["outcome"] == "undone"  # the newest of which something is in place
    assert fleet.trees() == changed

    undone = fleet.run("undo")
    assert (undone["exit_code"], undone["outcome"]) == (0, "undone"), undone
    assert undone["details"]["run"] == done["details"]["run"]
    assert outcomes(undone) == dict.fromkeys(ALL, "undone")
    assert fleet.trees() == before
    seen = fleet.run("status", done["details"]["run"])
    assert (seen["exit_code"], outcomes(seen)) == (0, dict.fromkeys(ALL, "undone"))


def test_one_that_refuses_keeps_all_as_they_are(fleet):
    before = fleet.trees()
    fleet.make_sick("n2")
    done = fleet.on("install", "alpha==2", "--require-cuda")
    assert (done["exit_code"], done["outcome"]) == (11, "refused"), done
    assert outcomes(done) == {"n1": "abandoned", "n2": "refused"}
    assert not [line for line in fleet.log() if line.endswith("commit")]
    assert fleet.trees() == before


def test_a_check_that_fails_afterwards_takes_all_back(fleet):
    before = fleet.trees()
    fleet.describe(n2={"commit": "sick-after"})
    done = fleet.on("install", "alpha==2")
    assert (done["exit_code"], done["outcome"]) == (12, "rolled-back"), done
    assert outcomes(done) == dict.fromkeys(ALL, "undone")
    reasons = {row["name"]: row["reason"] for row in done["details"]["nodes"]}
    assert "CUDA" in reasons["n2"]
    assert fleet.trees() == before
    assert fleet.log()[-2:] == ["engine settle n1 n2", "engine close"]


@pytest.mark.long
def test_a_node_that_dies_before_its_commit(fleet):
    fleet.describe(n2={"commit": "dies-before"})
    done = fleet.on("install", "alpha==2")
    assert (done["exit_code"], done["outcome"]) == (13, "rollback-failed"), done
    assert outcomes(done) == {"n1": "undone", "n2": "unknown"}
    fleet.raise_dead()
    finished = fleet.run("undo")
    assert finished["exit_code"] == 0, finished
    assert outcomes(finished)["n2"] == "abandoned"


@pytest.mark.long
def test_a_node_that_dies_behind_its_commit_is_told_later(fleet):
    before = fleet.trees()
    fleet.describe(n2={"commit": "dies-after"})
    done = fleet.on("install", "alpha==2")
    assert (done["exit_code"], outcomes(done)["n2"]) == (13, "unknown"), done
    assert fleet.trees()["n2"] != before["n2"]
    fleet.raise_dead()
    seen = fleet.run("status")
    assert outcomes(seen) == {"n1": "undone", "n2": "changed"}
    assert seen["exit_code"] == 1
    assert fleet.run("undo")["exit_code"] == 0


@pytest.mark.long
def test_one_that_never_answers_and_one_that_babbles(fleet):
    fleet.describe(n1={"inventory": "hangs"}, n2={"inventory": "garbage"})
    done = fleet.on("install", "alpha==2", "--node-timeout", "5")
    assert (done["exit_code"], done["outcome"]) == (1, "error"), done
    assert outcomes(done) == {"n1": "unknown", "n2": "unknown"}
    fleet.describe(n2={"inventory": "garbage"})
    told = fleet.text("diff", "--inventory", str(fleet.target))
    assert "its answer cannot be used" in told
    assert "1 node answered: there is nothing to compare. 1 did not answer." in told
    assert "\x1b" not in told


def test_an_environment_that_two_nodes_share(fleet):
    before = fleet.trees()
    fleet.describe(names=["n1", "n2"], places={"n2": "n1"})
    done = fleet.on("install", "alpha==2")
    assert (done["exit_code"], outcomes(done)) == (0, {"n1": "changed", "n2": "changed"}), done
    assert [row["shares"] for row in done["details"]["nodes"]] == [None, "n1"]
    verbs = [line for line in fleet.log() if line.endswith((" stage", " commit"))]
    assert verbs == ["n1 stage", "n1 commit"]
    assert fleet.trees()["n2"] == before["n2"]
    assert fleet.run("undo")["exit_code"] == 0


@pytest.mark.long
def test_two_fleets_at_once(fleet):
    """Each of them changes all nodes or none; of two that stage, the second commit is refused."""
    before = fleet.trees()
    started = [
        fleet.start("install", project, "--inventory", str(fleet.target))
        for project in ("alpha==2", "beta")
    ]
    ended = [fleet.end(one) for one in started]
    for document in ended:
        found = set(outcomes(document).values())
        assert "unknown" not in found
        assert (found == {"changed"}) == (document["exit_code"] == 0), document
        assert document["exit_code"] in (0, 11, 12, 14), document
        if document["exit_code"] != 0:
            assert "changed" not in found
    for document in ended:
        if document["exit_code"] == 0:
            assert fleet.run("undo", document["details"]["run"])["exit_code"] == 0
    assert fleet.trees() == before


@pytest.mark.long
def test_a_controller_that_is_killed_is_finished_by_the_next(fleet):
    before = fleet.trees()
    fleet.describe(n2={"commit": "slow"})
    started = fleet.start("install", "alpha==2", "--inventory", str(fleet.target))
    fleet.wait_for("n1 commit")
    fleet.kill(started)
    seen = fleet.run("status")
    assert seen["details"]["verb"] == "status"
    assert set(outcomes(seen).values()) <= {"changed", "unchanged", "unknown"}
    done = fleet.run("undo")
    if done["exit_code"] == 13:  # one was committing still
        done = fleet.run("undo")
    assert done["exit_code"] == 0, done
    assert fleet.trees() == before


@pytest.mark.long
@pytest.mark.parametrize(("number", "verb"), [(signal.SIGINT, "stage"), (signal.SIGTERM, "commit")])
def test_a_person_who_stops_it_in_between(fleet, number, verb):
    """The nodes end what they do; then all is taken back."""
    before = fleet.trees()
    fleet.describe(n2={verb: "slow"})
    started = fleet.start("install", "alpha==2", "--inventory", str(fleet.target))
    fleet.wait_for(f"n1 {verb}")
    started.send_signal(number)
    done = fleet.end(started)
    assert (done["exit_code"], done["outcome"]) == (128 + number, "rolled-back"), done
    expected = {"stage": "abandoned", "commit": "undone"}
    assert outcomes(done) == dict.fromkeys(ALL, expected[verb])
    assert fleet.trees() == before
    assert fleet.run("status")["exit_code"] == 0


@pytest.mark.long
def test_a_person_who_stops_an_undo(fleet):
    """The nodes end what they do; what is not known is asked by the next undo."""
    before = fleet.trees()
    done = fleet.on("install", "alpha==2")
    run = done["details"]["run"]
    fleet.describe(n1={"undo": "garbage"}, n2={"undo": "slow"})
    started = fleet.start("undo", run)
    fleet.wait_for("n1 undo")
    started.send_signal(signal.SIGINT)
    stopped = fleet.end(started)
    assert (stopped["exit_code"], stopped["outcome"]) == (13, "rollback-failed"), stopped
    assert outcomes(stopped) == {"n1": "unknown", "n2": "undone"}
    finished = fleet.run("undo")
    assert (finished["exit_code"], outcomes(finished)) == (0, dict.fromkeys(ALL, "undone")), (
        finished
    )
    assert fleet.trees() == before


def fill_cache(cache, projects):
    """alpha 2, as a machine keeps what it fetched for another purpose."""
    (wheel,) = projects.glob("alpha-2-*.whl")
    content = wheel.read_bytes()
    link = Link(f"https://h.example/{wheel.name}", wheel.name, sha256=hash_of(content))
    return fetch(link, http=Http(content), cache=cache, reporter=Reporter())


def wheels_sent(fleet, name):
    """The names of the wheels in what a node was sent."""
    found = []
    for path in (fleet.state / name).glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        found.append([one for one in names if one.endswith(".whl")])
    return found


@pytest.mark.long
def test_a_wheel_that_lies_in_the_caches_of_all_is_not_sent(fleet, projects, tmp_path):
    before = fleet.trees()
    caches = {name: tmp_path / f"cache-{name}" for name in ALL}
    kept = {name: fill_cache(caches[name], projects) for name in ALL}
    fleet.describe(caches=caches)
    done = fleet.on("install", "alpha==2", "beta")
    assert (done["exit_code"], outcomes(done)) == (0, dict.fromkeys(ALL, "changed")), done
    assert (
        wheels_sent(fleet, "n1") == wheels_sent(fleet, "n2") == [["wheels/beta-1-py3-none-any.whl"]]
    )
    assert fleet.run("undo")["exit_code"] == 0
    assert fleet.trees() == before

    # one of them is damaged: refused before anything is changed, and then it is sent
    kept["n2"].write_bytes(b"other")
    refused = fleet.on("install", "alpha==2")
    assert (refused["exit_code"], outcomes(refused)["n2"]) == (11, "refused"), refused
    reasons = {row["name"]: row["reason"] for row in refused["details"]["nodes"]}
    assert "alpha-2-py3-none-any.whl, which was in the cache" in reasons["n2"]
    assert fleet.trees() == before
    again = fleet.on("install", "alpha==2")
    assert (again["exit_code"], outcomes(again)) == (0, dict.fromkeys(ALL, "changed")), again
    assert ["wheels/alpha-2-py3-none-any.whl"] in wheels_sent(fleet, "n2")
    assert fleet.run("undo")["exit_code"] == 0


@pytest.mark.long
def test_a_run_is_found_again_from_another_folder(fleet):
    words = ("install", "alpha==2", "--inventory", fleet.target.name)
    done = fleet.run(*words, cwd=fleet.folder)
    assert (done["exit_code"], done["outcome"]) == (0, "installed"), done
    assert fleet.run("status")["exit_code"] == 0
    assert fleet.run("undo")["outcome"] == "undone"


def test_a_page_that_cannot_be_written(fleet, tmp_path):
    """It is refused before anything is changed; what is done is told, also where it fails then."""
    for place in (tmp_path, tmp_path / "none" / "fleet.html"):
        refused = fleet.on("install", "alpha==2", "--html", str(place))
        assert refused["exit_code"] == 2, refused
        assert "--html" in refused["error"]["message"]
    folder = tmp_path / "goes"
    folder.mkdir()
    page = ("--html", str(folder / "fleet.html"))
    running = fleet.start("install", "alpha==2", "--inventory", str(fleet.target), *page)
    fleet.wait_for("n2 stage")
    folder.rmdir()
    done = fleet.end(running)
    assert (done["exit_code"], done["outcome"]) == (0, "installed"), done
    assert fleet.run("undo")["outcome"] == "undone"


@pytest.mark.long
def test_verify_and_diff(fleet):
    healthy = fleet.on("verify")
    assert (healthy["exit_code"], outcomes(healthy)) == (0, dict.fromkeys(ALL, "healthy")), healthy
    same = fleet.on("diff")
    assert (same["exit_code"], same["outcome"]) == (0, "same")
    fleet.describe(names=["n2"])
    fleet.on("install", "beta")
    fleet.describe()
    page = fleet.folder / "page.html"
    differs = fleet.on("diff", "--html", str(page))
    assert (differs["exit_code"], differs["outcome"]) == (1, "differs")
    odd, most = differs["details"]["alike"]
    assert (odd["nodes"], most["nodes"]) == (["n2"], ["n1"])
    assert odd["differs"] == [{"subject": "beta", "here": "1", "most": "none"}]
    assert "beta 1 (most: none)" in page.read_text()
    assert fleet.run("undo")["exit_code"] == 0
