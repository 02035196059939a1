"""`doctor --report`, as people paste it into an issue."""

from __future__ import annotations

import sys

from tests.functional.conftest import run_process
from tests.functional.doctor_lab import make_lab as make_lab
from tests.lab.breakage.recipe import truncate
from tests.lab.breakage.torch_parts import an_extension_that_was_installed_without_its_native_part


def report_of(lab):
    """The report, and its exit status."""
    executable = str(lab.environment.executable)
    command = [sys.executable, "-m", "safe_install", "doctor", "--report", "--python", executable]
    done = run_process(command, lab.variables, cwd=lab.folder)
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("```text", "```")
    return lines, done.returncode


def test_a_healthy_environment(make_lab):
    lines, status = report_of(make_lab())
    assert status == 0
    assert "PyTorch version: 2.13.0+cpu" in lines
    assert "CUDA used to build PyTorch: None" in lines
    assert "Is CUDA available: False" in lines
    assert "[pip3] torch==2.13.0+cpu" in lines
    assert [line for line in lines if line.startswith("OS: ") and "Could not" not in line]
    assert [line for line in lines if line.startswith("Libc version: glibc-")]


def test_what_is_broken_stands_in_it_and_no_home_folder(make_lab):
    lab = make_lab()
    truncate(lab.torch / "lib" / "libtorch_cpu.so")
    lab.variables["HOME"] = str(lab.folder)
    lines, status = report_of(lab)
    assert status == 1
    assert [line for line in lines if line.startswith("records: ") and "libtorch_cpu.so" in line]
    assert str(lab.folder) not in "\n".join(lines)


def test_of_an_extension_that_does_not_import_nobody_reads_that_it_fits(make_lab):
    lab = make_lab()
    an_extension_that_was_installed_without_its_native_part(lab)
    lines, status = report_of(lab)
    assert status == 1
    (line,) = [line for line in lines if line.startswith("torch-scatter==")]
    assert "torch_scatter fails: ImportError: " in line


def test_without_torch_nobody_knows_whether_an_extension_fits(make_lab):
    lab = make_lab()
    an_extension_that_was_installed_without_its_native_part(lab)
    lab.environment.must_pip("uninstall", "-y", "torch")
    lines, _ = report_of(lab)
    (line,) = [line for line in lines if line.startswith("torch-scatter==")]
    assert "cannot tell: there is no torch" in line
