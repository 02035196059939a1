"""The health script in real processes: what crashes, hangs, prints or exits is an answer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.version import Version

from safe_install.health.examination import Examination
from safe_install.health.report import Subject
from safe_install.models import TorchBuild

TORCH = """
__version__ = "1.8.1+cu111"
class version:
    cuda, hip = "11.1", None
class cuda:
    is_available = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 0)
"""
MODULES = {
    "torch.py": TORCH,
    "good.py": "value = 2",
    "crashes.py": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "hangs.py": "import time; time.sleep(60)",
    "leaves.py": "import os; os._exit(3)",
    "prints.py": 'import sys; print(\'{"event": "done"}\'); sys.stdout.flush()',
    "raises.py": "raise OSError('libcudart.so.13: cannot open shared object file')",
}
BUILD = TorchBuild(Version("1.8.1+cu111"), "1.8.1+cu111", "cu111", "11.1")


@pytest.fixture
def modules(tmp_path, monkeypatch):
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def subject(name, operation=None, native=()):
    return Subject(name, (name,), tuple(native), operation)


def examine(*subjects, **options):
    return Examination(Path(sys.executable), BUILD, subjects, **options).result()


def test_a_crash_is_the_answer_of_its_step_and_the_rest_is_asked(modules):
    report = examine(subject("crashes"), subject("good"), subject("leaves"), subject("raises"))
    assert report.torch_version == "1.8.1+cu111"
    assert report.imports["torch"].ok
    assert report.imports["crashes"].error == "signal SIGSEGV"
    assert report.imports["good"].ok
    assert report.imports["leaves"].error == "exit status 3"
    assert "libcudart.so.13" in report.imports["raises"].error
    assert report.crashed is None


def test_a_hang_ends_at_the_time_limit(modules):
    report = examine(subject("hangs"), timeout=1.5)
    assert report.imports["torch"].ok
    assert "no answer within" in report.imports["hangs"].error


def test_what_a_module_prints_is_no_answer(modules):
    report = examine(subject("prints"), subject("good"))
    assert report.imports["prints"].ok
    assert report.imports["good"].ok


def test_operations_run_on_the_cpu_where_there_is_no_gpu(modules):
    report = examine(
        subject("good", "import good; assert good.value == 2 and device == 'cpu'"),
        subject("raises", "assert False, 'sum is wrong'"),
    )
    assert report.operations["good on cpu"].ok
    assert "sum is wrong" in report.operations["raises on cpu"].error


@pytest.mark.parametrize("computes", [True, False])
def test_an_extension_is_asked_for_the_gpu_when_torch_computes_there(modules, computes):
    ones = (
        "class Ones:\n    __mul__ = lambda self, other: self\n    sum = lambda self: self\n    item = lambda self: 16\n"
    )
    fails = "def ones(*words, **options):\n    raise RuntimeError('CUDA error: unknown error')\n"
    works = "def ones(*words, **options):\n    return Ones()\n"
    has_gpu = TORCH.replace("lambda: False", "lambda: True").replace("lambda: 0", "lambda: 1")
    (modules / "torch.py").write_text(has_gpu + ones + (works if computes else fails))
    # The script asks the loader for the driver's library before it believes in a GPU.
    (modules / "sitecustomize.py").write_text("import ctypes\nctypes.CDLL = lambda name, **options: object()\n")
    report = examine(subject("good", "import good; assert device in ('cpu', 'cuda')"))
    assert report.cuda_available is True
    assert report.operations["torch on cuda"].ok is computes
    assert ("good on cuda" in report.operations) is computes
    assert report.operations["good on cpu"].ok


def test_native_files_are_loaded_with_all_their_symbols(modules):
    (modules / "ext").mkdir()
    (modules / "ext" / "_C.so").write_bytes(b"\x7fELF not really")
    report = examine(subject("good", native=["ext/*.so"]))
    assert "_C.so" in report.operations["good native part"].error


def test_the_answer_comes_from_a_fresh_process_each_time(modules):
    assert examine(subject("good")).imports["good"].ok
    (modules / "good.py").write_text("raise ImportError('changed')")
    assert "changed" in examine(subject("good")).imports["good"].error
