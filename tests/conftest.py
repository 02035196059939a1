"""What every kind of test shares: the tests that need something special run only when asked for."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

ASKED = {
    "long": ("--all", "a further case, or one of minutes"),
    "cuda_lab": ("--run-cuda-lab", "downloads a CUDA torch of several gigabytes"),
    "gpu": ("--run-gpu", "needs a real NVIDIA GPU"),
}
# Set where each test must run (.ci/run): a skip is a failure then, less those that need gigabytes or
# a GPU, and the browser's.
NO_SKIPS = "SAFE_INSTALL_NO_SKIPS"
# The files that take longest, by their seconds on one core. They begin in this order, so that no
# worker is left alone with one at the end. The second file with the CUDA torch waits until the
# first has downloaded it.
LONGEST = (
    "tests/cuda/test_extension.py",  # in CI 243, of which 170 are a build
    "tests/functional/test_real_torch.py",  # 155
    "tests/functional/test_founding_story.py",  # 92
    "tests/clusters/test_dask.py",  # 80, of which most is waited for
    "tests/clusters/test_ray.py",  # 60
    "tests/images/test_images.py",  # 59
    "tests/functional/test_differential.py",  # 57
    "tests/functional/test_real_record.py",
    "tests/functional/test_doctor_real_torch.py",
    "tests/functional/test_ansible.py",
    "tests/functional/test_ansible_engine.py",
    "tests/fleet/test_fleet.py",
    "tests/functional/test_bundle.py",
    "tests/functional/test_sync.py",
    "tests/functional/test_doctor.py",
    "tests/functional/test_node_verbs.py",
    "tests/functional/test_doctor_fix.py",
    "tests/functional/test_drop_in.py",  # 50
    # its time is given, and not what it does in it: once the builds of the first two are over
    "tests/attack/test_attack.py",
    "tests/cuda/test_machine.py",  # 49
    "tests/functional/test_export.py",
    "tests/functional/test_readme.py",  # 44
    "tests/functional/test_wheel_page.py",  # 45
    "tests/crash/test_program.py",  # 34
    "tests/functional/test_intruders.py",  # 32
    "tests/functional/test_hostile.py",  # 30
    "tests/functional/test_build_extension.py",  # 29
    "tests/functional/test_clones.py",  # 29
    "tests/functional/test_startup_files.py",  # 27
    "tests/crash/test_every_step.py",  # 27
    "tests/crash/test_side_by_side.py",  # 26
    "tests/functional/test_verify.py",  # 24
    "tests/functional/test_hosting_kinds.py",  # 21
    "tests/shapes/test_mounts.py",  # 21
    "tests/shapes/test_environments.py",
    "tests/index/test_http.py",  # 18
    # Among the last by their path, and the longest of the unit tests.
    "tests/unit/transaction/test_shapes.py",
    "tests/index/test_update_script.py",
    "tests/unit/transaction/test_wrong_journals.py",
)
# Below the files of seconds come those of a second and less.
SHORT = ("tests/unit/", "tests/index/")
# pip asks these for its User-Agent at every start, which costs more than the start of a Python.
ASKED_BY_PIP = ("lsb_release", "rustc")
ATTACK_SECONDS = 20.0
ATTACK_SECONDS_OF_CI = 60.0
SILENT_PROGRAMS = pytest.StashKey[str]()


def pytest_configure(config):
    # A shell that starts us in the background has SIGINT ignored, and our children would inherit
    # that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # xdist gives the files with the most tests first: those of the quickest tests. Ours come in our
    # order.
    config.option.loadscopereorder = False
    os.environ["SAFE_INSTALL_LANGUAGE"] = "en"  # whatever the locale of this shell is
    # The tests are a million objects that stay: looking for garbage among them takes a quarter of
    # the time in which they are collected.
    gc.disable()
    if not hasattr(config, "workerinput"):  # workers inherit PATH
        config.stash[SILENT_PROGRAMS] = put_silent_programs_first()


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def pytest_unconfigure(config):
    folder = config.stash.get(SILENT_PROGRAMS, None)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol():
    """Python drops a trace function in which an exception is raised, as by a signal of a test or at
    the limit of recursion: coverage would measure nothing more in this process."""
    tracing = sys.gettrace()
    yield
    restore_tracing(tracing)


def restore_tracing(tracing):
    """Put back what traced before, if nothing does now."""
    if tracing is not None and sys.gettrace() is None:
        sys.settrace(tracing)


def put_silent_programs_first():
    """A folder at the front of PATH in which what pip asks for its User-Agent says nothing; the
    folder."""
    folder = tempfile.mkdtemp(prefix="silent-")
    silent = shutil.which("true")
    for name in ASKED_BY_PIP if silent else ():
        Path(folder, name).symlink_to(silent)
    os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", os.defpath)
    return folder


def pytest_addoption(parser):
    for option, why in ASKED.values():
        parser.addoption(
            option, action="store_true", help=f"run the tests that are marked for it ({why})"
        )
    seconds = ATTACK_SECONDS_OF_CI if os.environ.get(NO_SKIPS) else ATTACK_SECONDS
    said = f"how long tests/attack runs ({ATTACK_SECONDS:.0f}, {ATTACK_SECONDS_OF_CI:.0f} in CI)"
    parser.addoption("--attack-seconds", type=float, default=seconds, help=said)
    parser.addoption(
        "--attack-seed", type=int, default=None, help="the batch of tests/attack to run first"
    )
    parser.addoption(
        "--crash-seed",
        type=int,
        default=None,
        help="the random moments of tests/crash to try again",
    )


def pytest_collection_modifyitems(config, items):
    for item in items:
        for marker, (option, why) in ASKED.items():
            if item.get_closest_marker(marker) and not config.getoption(option):
                item.add_marker(pytest.mark.skip(reason=f"{why}: run with {option}"))
    items.sort(key=order_of)


@pytest.fixture
def on_disk():
    """A folder of one test's own for what is large, or asks something of a real file system:
    tmp_path may lie in memory (scripts/test)."""
    folder = Path(tempfile.mkdtemp(prefix="on-disk-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def order_of(item):
    """The longest files first, then the others that start processes, then the quick ones."""
    file = item.nodeid.partition("::")[0]
    if file in LONGEST:
        return LONGEST.index(file)
    return len(LONGEST) + file.startswith(SHORT)


def pytest_terminal_summary(terminalreporter):
    line = describe_cuda_suite(terminalreporter.stats)
    if line:
        terminalreporter.write_line(line)
    for line in describe_skips(terminalreporter.stats):
        terminalreporter.write_line(line)


def pytest_sessionfinish(session):
    """A skip that may not be makes the run a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and find_forbidden_skips(reporter.stats):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def describe_skips(stats):
    """One line for the tests that did not run, the most frequent reason first; and one for those
    that had to."""
    reasons = Counter(skip_reason(report) for report in stats.get("skipped", []))
    lines = []
    if reasons:
        listed = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        lines.append(f"skipped: {listed}")
    forbidden = find_forbidden_skips(stats)
    if forbidden:
        names = ", ".join(sorted({report.nodeid for report in forbidden}))
        lines.append(f"FAILED: must not be skipped where {NO_SKIPS} is set: {names}")
    return lines


def find_forbidden_skips(stats):
    """The reports of tests that were skipped and may not be, where nothing may be skipped."""
    if not os.environ.get(NO_SKIPS):
        return []
    return [
        report for report in stats.get("skipped", []) if not may_be_skipped(skip_reason(report))
    ]


def may_be_skipped(reason):
    """What needs gigabytes or a GPU, and the wheel page's browser (.ci/run says itself that it is
    not there)."""
    options = [option for marker, (option, _) in ASKED.items() if marker != "long"]
    return any(option in reason for option in options) or "chromium" in reason


def describe_cuda_suite(stats):
    """One line on the tests of tests/cuda, or nothing where none was chosen. `.ci/run` looks for
    it."""
    # What was deselected is a test, and no report of one.
    reports = {
        outcome: [report for report in found if is_cuda(report)]
        for outcome, found in stats.items()
        if outcome != "deselected"
    }
    counts = {
        outcome: len(reports.get(outcome, []))
        for outcome in ("passed", "failed", "error", "skipped")
    }
    if not any(counts.values()):
        return ""
    if not counts["passed"] and not counts["failed"] and not counts["error"]:
        return f"CUDA suite: not run: {skip_reason(reports['skipped'][0])}"
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    seconds = sum(report.duration for found in reports.values() for report in found)
    return f"CUDA suite: {told}, {seconds:.0f} s"


def is_cuda(report):
    """Of the suite that always runs; the long one on several stacks has a module of its own."""
    nodeid = getattr(report, "nodeid", "")
    return nodeid.startswith("tests/cuda/") and not nodeid.startswith("tests/cuda/test_stacks.py")


def skip_reason(report):
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.replace("Skipped: ", "")
