"""What every kind of test shares: the tests that need something special run only when asked for."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

ASKED = {
    "cuda_lab": ("--run-cuda-lab", "downloads a CUDA torch of several gigabytes"),
    "gpu": ("--run-gpu", "needs a real NVIDIA GPU"),
}
# Set where each test must run (.ci/run): a skip is a failure then, less those that are asked for and the browser's.
NO_SKIPS = "SAFE_INSTALL_NO_SKIPS"


def pytest_configure(config):
    # A shell that starts us in the background has SIGINT ignored, and our children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    for option, why in ASKED.values():
        parser.addoption(option, action="store_true", help=f"run the tests that are marked for it ({why})")
    parser.addoption("--attack-seconds", type=float, default=60.0, help="how long tests/attack runs (60)")
    parser.addoption("--attack-seed", type=int, default=None, help="the batch of tests/attack to run first")


def pytest_collection_modifyitems(config, items):
    for item in items:
        for marker, (option, why) in ASKED.items():
            if marker in item.keywords and not config.getoption(option):
                item.add_marker(pytest.mark.skip(reason=f"{why}: run with {option}"))
    # The long files first, so that no worker is left alone with one at the end.
    items.sort(key=lambda item: "torch" not in item.keywords and "cuda" not in item.keywords)


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
    """One line for the tests that did not run, the most frequent reason first; and one for those that had to."""
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
    return [report for report in stats.get("skipped", []) if not may_be_skipped(skip_reason(report))]


def may_be_skipped(reason):
    """What runs only when asked for, and the wheel page's browser (.ci/run says itself that it is not there)."""
    return any(option in reason for option, _ in ASKED.values()) or "chromium" in reason


def describe_cuda_suite(stats):
    """One line on the tests of tests/cuda, or nothing where none was chosen. `.ci/run` looks for it."""
    reports = {outcome: [report for report in found if is_cuda(report)] for outcome, found in stats.items()}
    counts = {outcome: len(reports.get(outcome, [])) for outcome in ("passed", "failed", "error", "skipped")}
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
