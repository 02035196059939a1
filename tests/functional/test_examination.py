"""The health script in real processes: what crashes, hangs, prints or exits is an answer."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.version import Version

from safe_install.health.answers import Subject
from safe_install.health.comparison import is_healthy
from safe_install.health.examination import Examination
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


STARTS_A_DAEMON = """
import os, subprocess, sys
code = "import os, time; os.setsid() if os.fork() == 0 else os._exit(0); "
code += "open(%r, 'w').write(str(os.getpid())); time.sleep(60)" % PLACE
subprocess.run([sys.executable, "-c", code], start_new_session=True)
while not os.path.exists(PLACE) or not os.path.getsize(PLACE):
    pass
"""


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


def test_what_needs_a_module_that_crashes_is_not_asked(modules):
    """Each question would cost another process, and another import of torch."""
    report = examine(subject("crashes", "import crashes"), subject("good", "import good"))
    assert report.imports["crashes"].error == "signal SIGSEGV"
    assert [name for name in report.operations if not name.startswith("torch")] == ["good on cpu"]


def test_a_hang_ends_at_the_time_limit(modules):
    """It gets half of the time that is left, and is named; the others are asked all the same."""
    started = time.monotonic()
    report = examine(subject("hangs", "import hangs"), subject("good", "import good"), timeout=6)
    assert time.monotonic() - started < 30  # it would hang for 60
    assert report.imports["torch"].ok
    assert report.imports["hangs"].error == "no answer within 3.0 s (--check-timeout is 6)"
    assert not report.imports["hangs"].unknown
    assert report.imports["good"].ok
    assert report.operations["good on cpu"].ok


def test_what_was_not_asked_for_lack_of_time_is_unknown(modules):
    """It writes all the while, so that only the limit of the whole check ends it."""
    (modules / "talks.py").write_text("import os\nwhile True: os.write(2, b'...\\n' * 1000)\n")
    report = examine(subject("talks"), subject("good", "import good"), timeout=2)
    assert report.imports["torch"].ok
    assert "--check-timeout is 2" in report.imports["good"].error
    assert report.imports["good"].unknown
    assert report.operations["good on cpu"].unknown
    (modules / "torch.py").write_text("import time; time.sleep(60)")
    report = examine(subject("good"), timeout=1)
    assert report.imports["torch"].unknown
    assert report.imports["good"].unknown


def test_what_was_not_asked_because_torch_died_of_the_second_import_is_unknown(modules):
    (modules / "torch.py").write_text(
        TORCH + "import os\nplace = os.path.join(os.path.dirname(__file__), 'imported')\n"
        "if os.path.exists(place):\n    os._exit(3)\nopen(place, 'w').close()\n"
    )
    report = examine(subject("crashes"), subject("good"))
    assert report.imports["torch"].ok
    assert not report.imports["crashes"].unknown
    assert report.imports["good"].unknown


def test_what_a_module_prints_is_no_answer(modules):
    report = examine(subject("prints"), subject("good"))
    assert report.imports["prints"].ok
    assert report.imports["good"].ok


def test_only_torch_is_imported_without_a_look_for_garbage(modules):
    """Its import makes objects that stay; what comes after it is run as everywhere."""
    (modules / "torch.py").write_text(f"{TORCH}import gc\nassert not gc.isenabled()\n")
    (modules / "good.py").write_text("import gc\nassert gc.isenabled()\n")
    report = examine(subject("good", "import gc; assert gc.isenabled()"))
    assert report.imports["torch"].error is None
    assert report.imports["good"].error is None
    assert report.operations["good on cpu"].error is None


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
        "class Ones:\n    __mul__ = lambda self, other: self\n    sum = lambda self: self\n    "
        "item = lambda self: 16\n"
    )
    fails = "def ones(*words, **options):\n    raise RuntimeError('CUDA error: unknown error')\n"
    works = "def ones(*words, **options):\n    return Ones()\n"
    has_gpu = TORCH.replace("lambda: False", "lambda: True").replace("lambda: 0", "lambda: 1")
    (modules / "torch.py").write_text(has_gpu + ones + (works if computes else fails))
    # The script asks the loader for the driver's library before it believes in a GPU.
    (modules / "sitecustomize.py").write_text(
        "import ctypes\nctypes.CDLL = lambda name, **options: object()\n"
    )
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


# --- shared objects -------------------------------------------------------------------------------

# As c10 does it: operators are registered once in a process, whoever comes second ends it.
REGISTRY = """
#include <stdio.h>
#include <stdlib.h>
static int registered;
void register_operators(void) {
  if (registered++) {
    fputs("terminate called after throwing an instance of 'c10::Error'\\n", stderr);
    fputs("  what():  Tried to register an operator (demo::twice) twice.\\nframe #0: register\\n", stderr);
    abort();
  }
}
"""
OPERATORS = """
void register_operators(void);
__attribute__((constructor)) static void at_load(void) { register_operators(); }
"""
ABORTS = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void at_load(void) { fputs("free(): invalid pointer\\n", stderr); abort(); }
"""
# A helper process that goes on when its parent ended, with the parent's stdout and stderr.
STAYS = """
#include <unistd.h>
__attribute__((constructor)) static void at_load(void) { if (fork() == 0) { sleep(60); _exit(0); } }
"""
TALKS = """
#include <stdlib.h>
#include <unistd.h>
static char text[1 << 16];
__attribute__((constructor)) static void at_load(void) {
    for (int i = 0; i < 3200; i++) if (write(2, text, sizeof text) < 0) _exit(1);
    write(2, "\\nfree(): invalid pointer\\n", 25);
    abort();
}
"""
LEAVES = "#include <stdlib.h>\n__attribute__((constructor)) static void at_load(void) { exit(0); }"
LACKS = "void nobody_has_it(void); void *needed = nobody_has_it;"
LOADS = "import ctypes, os\nctypes.CDLL(os.path.join(os.path.dirname(__file__), %r))\n"


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Shared objects by name: what they do when they are loaded."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("objects")

    def link(name, source, *options):
        (folder / f"{name}.c").write_text(source)
        command = [
            "cc",
            "-shared",
            "-fPIC",
            "-o",
            f"{folder / name}.so",
            f"{folder / name}.c",
            *options,
        ]
        subprocess.run(command, check=True)

    link("libregistry", REGISTRY, "-Wl,-soname,libregistry.so")
    link("operators", OPERATORS, f"-L{folder}", "-lregistry", f"-Wl,-rpath,{folder}")
    link("aborts", ABORTS)
    link("stays", STAYS)
    link("talks", TALKS)
    link("leaves", LEAVES)
    link("lacks", LACKS)
    link("good", "int good;")
    link("libpart", "int part(void) { return 1; }", "-Wl,-soname,libpart.so")
    link("needs_part", "int part(void); int (*here)(void) = part;", f"-L{folder}", "-lpart")
    link("libcuda", "int cuInit(int flags) { return 0; }", "-Wl,-soname,libcuda.so.1")
    link(
        "needs_driver",
        "int cuInit(int); int (*here)(int) = cuInit;",
        f"-L{folder}",
        "-l:libcuda.so",
    )
    return folder


def make_package(modules, objects, name, files, init=""):
    """A package whose files are copies of the objects."""
    (modules / name).mkdir()
    (modules / name / "__init__.py").write_text(init)
    for file, kind in files.items():
        shutil.copy(objects / f"{kind}.so", modules / name / file)


def native_part(name, pattern, **options):
    return examine(subject(name, native=[f"{name}/{pattern}"]), **options).operations[
        f"{name} native part"
    ]


TWINS = {"_x_cpu.so": "operators", "_x_cuda.so": "operators"}
ORDERED = "_*{_cuda,_cpu,}.so"


@pytest.mark.parametrize("pattern", [ORDERED, "_*.so"], ids=["known", "not known as twins"])
@pytest.mark.parametrize(
    "init", [LOADS % "_x_cuda.so", LOADS % "_x_cpu.so", ""], ids=["cuda", "cpu", "none"]
)
def test_of_twins_the_one_that_the_import_loads_is_enough(modules, objects, pattern, init):
    make_package(modules, objects, "twins", TWINS, init)
    answer = native_part("twins", pattern)
    assert answer.ok, answer.error


BROKEN = {
    "the twin that is taken lacks a symbol": (
        {"_x_cpu.so": "operators", "_x_cuda.so": "lacks"},
        ORDERED,
        "nobody_has_it",
    ),
    "the twin that is taken aborts": (
        {"_x_cpu.so": "operators", "_x_cuda.so": "aborts"},
        ORDERED,
        "_x_cuda.so: signal SIGABRT (free(): invalid pointer)",
    ),
    "one of two files": ({"_a.so": "good", "_b.so": "lacks"}, "_*.so", "nobody_has_it"),
    "it ends the process": ({"_a.so": "leaves"}, "_*.so", "_a.so: exit status 0"),
    "none of those that differ in numbers": (
        {"lib4.so": "lacks", "lib5.so": "aborts"},
        "lib*.so",
        "nobody_has_it",
    ),
}


@pytest.mark.parametrize(("files", "pattern", "error"), BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_nothing_has_loaded_must_load(modules, objects, files, pattern, error):
    make_package(modules, objects, "broken", files)
    answer = native_part("broken", pattern)
    assert not answer.ok
    assert error in answer.error


def test_a_process_that_a_file_starts_is_not_waited_for(modules, objects):
    make_package(modules, objects, "helped", {"_a.so": "stays"})
    started = time.monotonic()
    assert native_part("helped", "_*.so").ok
    assert time.monotonic() - started < 30


def test_of_all_that_a_file_writes_the_end_is_kept(modules, objects):
    make_package(modules, objects, "talks", {"_a.so": "talks"})
    # The peak of this program; getrusage() counts what the process was before it became this
    # program.
    operation = (
        "lines = open('/proc/self/status').read().splitlines()\n"
        "(peak,) = [int(line.split()[1]) for line in lines if line.startswith('VmHWM')]\n"
        "assert peak < 100_000, 'kilobytes'"
    )
    report = examine(subject("talks", operation, native=["talks/_*.so"]))
    assert (
        "_a.so: signal SIGABRT (free(): invalid pointer)"
        in report.operations["talks native part"].error
    )
    assert report.operations["talks on cpu"].ok


def test_files_that_differ_in_numbers_stand_for_each_other(modules, objects):
    make_package(
        modules, objects, "codec", {"lib4.so": "lacks", "lib5.so": "aborts", "lib6.so": "good"}
    )
    assert native_part("codec", "lib*.so").ok
    assert not native_part("codec", "lib[45].so").ok


def test_what_the_import_has_loaded_is_there_for_the_rest(modules, objects):
    """A library without a run path, which the project's own Python code loads first."""
    init = LOADS.replace("))\n", "), mode=ctypes.RTLD_GLOBAL)\n") % "libpart.so"
    make_package(
        modules, objects, "parts", {"libpart.so": "libpart", "_needs.so": "needs_part"}, init
    )
    assert native_part("parts", "_*.so").ok
    (modules / "parts" / "__init__.py").write_text("")
    assert "libpart.so" in native_part("parts", "_*.so").error


def test_what_needs_the_driver_cannot_be_judged_without_one(modules, objects):
    try:
        ctypes.CDLL("libcuda.so.1")
        pytest.skip("there is a driver here")
    except OSError:
        pass
    make_package(modules, objects, "gpu", {"_x_cuda.so": "needs_driver"})
    assert native_part("gpu", "_*.so").ok
    assert native_part("gpu", "_*.so", asked="loader").ok


def test_a_process_that_dies_of_a_file_is_not_the_one_that_asks(modules, objects):
    make_package(modules, objects, "twins", TWINS, LOADS % "_x_cuda.so")
    make_package(modules, objects, "broken", {"_a.so": "aborts"})
    (modules / "imported.txt").touch()
    (modules / "counts.py").write_text(
        "import os; open(os.path.join(os.path.dirname(__file__), 'imported.txt'), 'a').write('x')"
    )
    counts = subject("counts", "import counts")
    broken, twins = (
        subject("broken", native=["broken/_*.so"]),
        subject("twins", "import twins", native=["twins/_*.so"]),
    )
    report = examine(broken, twins, counts)
    assert not report.operations["broken native part"].ok
    assert report.operations["twins native part"].ok
    assert report.operations["twins on cpu"].ok
    assert report.operations["counts on cpu"].ok
    assert (modules / "imported.txt").read_text() == "x", "nothing was imported a second time"


def test_no_second_process_where_the_import_has_loaded_all(modules, objects, monkeypatch):
    """Not even a copy: `os.fork` would end the process that asks."""
    make_package(
        modules, objects, "twins", TWINS, "import os\nos.fork = None\n" + LOADS % "_x_cuda.so"
    )
    assert native_part("twins", ORDERED).ok
    assert not native_part("twins", "_*.so").ok, "this way of asking would notice"


def test_where_no_copy_can_be_made_the_process_itself_loads(modules, objects):
    init = (
        "import os\ndef fork():\n    raise OSError(12, 'Cannot allocate memory')\nos.fork = fork\n"
    )
    make_package(modules, objects, "tight", {"_a.so": "good"}, init)
    assert native_part("tight", "_*.so").ok
    shutil.copy(objects / "lacks.so", modules / "tight" / "_a.so")
    assert "nobody_has_it" in native_part("tight", "_*.so").error


def test_the_loader_takes_the_first_of_twins(modules, objects):
    make_package(
        modules,
        objects,
        "twins",
        {"_x_cpu.so": "operators", "_x_cuda.so": "operators", "_y_cpu.so": "good"},
    )
    assert native_part("twins", ORDERED, asked="loader").ok
    shutil.copy(objects / "lacks.so", modules / "twins" / "_x_cuda.so")
    assert "nobody_has_it" in native_part("twins", ORDERED, asked="loader").error


@pytest.mark.parametrize("variable", ["PYTHONOPTIMIZE", "PYTHONWARNINGS", None])
def test_variables_of_python_do_not_blind_the_check(modules, monkeypatch, variable):
    """An assert that a person has switched off for his programs is run here, in the operation and
    in a module."""
    if variable is not None:
        monkeypatch.setenv(variable, "2" if variable == "PYTHONOPTIMIZE" else "error")
    (modules / "asserts.py").write_text("assert False, 'asked'")
    report = examine(subject("good", "assert False, 'asked'"), subject("asserts"))
    assert report.imports["torch"].ok
    assert report.operations["good on cpu"].error == "AssertionError: asked"
    assert report.imports["asserts"].error == "AssertionError: asked"


def test_the_operation_keeps_its_asserts_in_an_interpreter_that_drops_them(tmp_path):
    """Started with -O by a wrapper, which no variable tells."""
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -O "$@"\n')
    wrapper.chmod(0o755)
    report = Examination(
        wrapper, None, [Subject("os", ("os",), (), "assert False, 'asked'")]
    ).result()
    assert report.operations["os on cpu"].error == "AssertionError: asked"


@pytest.mark.parametrize(
    "leaves", ["", STARTS_A_DAEMON], ids=["alone", "with a process of its own session"]
)
def test_a_check_that_hangs_ends_when_the_caller_says_so(modules, tmp_path, leaves):
    place = tmp_path / "pid"
    (modules / "hangs.py").write_text(
        f"PLACE = {str(place)!r}\n{leaves}\nimport time; time.sleep(60)\n"
    )
    told = []

    def heed() -> None:
        if time.monotonic() - started > 0.5 and (not leaves or place.exists()):
            told.append(time.monotonic())
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Examination(Path(sys.executable), BUILD, [subject("hangs")]).result(on_tick=heed)
    assert time.monotonic() - told[0] < 20  # it would hang for 60


# --- what is imported shares the process with the check -------------------------------------------

TO_ALL = "import os\ndef to_all(data):\n    for fd in range(3, 12):\n        try:\n            os.write(fd, data)\n"
TO_ALL += "        except OSError:\n            pass\n"
FORGED = (
    "import json\nend = dict(event='end', kind='import', name='bad', ok=True, error=None, "
    "seconds=0.1)\n"
    "lines = json.dumps(end) + '\\n' + json.dumps(dict(event='done')) + '\\n'\n"
)
DEAD = {
    "a forged answer, then an end": (
        TO_ALL + FORGED + "to_all(lines.encode())\nos._exit(0)",
        "exit status 0",
    ),
    "a forged answer, then a crash": (
        TO_ALL + FORGED + "to_all(lines.encode())\nos.abort()",
        "signal SIGABRT",
    ),
    "the functions of the script": (
        "import __main__\n__main__.say(event='done')",
        "has no attribute 'say'",
    ),
    "the words of the script": ("import os\nos.read(3, 65536)", "exit status 0"),
    "no end of answers": (
        TO_ALL + "for _ in range(100):\n    to_all(b'x' * 1_000_000)",
        "more than an answer can have",
    ),
    "a long exception": ("raise OSError('y' * 50_000_000)", "OSError: yyyyyyyy"),
    "an exception without a text": (
        "class Odd(Exception):\n    def __str__(self):\n        raise ValueError\nraise Odd",
        "an exception whose text cannot be had",
    ),
    "an exit that is no exception": ("import sys\nsys.exit(0)", "SystemExit"),
}


@pytest.mark.parametrize(("code", "error"), DEAD.values(), ids=DEAD.keys())
def test_a_dead_import_does_not_pass_for_a_good_one(modules, code, error):
    (modules / "bad.py").write_text(code)
    report = examine(subject("bad"), subject("good"))
    assert not report.imports["bad"].ok
    assert error in report.imports["bad"].error
    assert len(report.imports["bad"].error) <= 8000
    assert report.imports["good"].ok
    assert not is_healthy(report)


HARMLESS = {
    "junk": TO_ALL + "to_all(bytes(range(256)) * 1000)",
    "half a line": TO_ALL + "to_all(b'{\"event\": ')",
    "deep": TO_ALL + "to_all(b'[' * 100_000 + b'\\n')",
    "json": 'import json\njson.dumps = json.dump = lambda *words, **more: \'{"event": "end"}\'',
    "print": "import builtins, os, sys, time\nbuiltins.print = os.write = os.read = time.perf_counter = None\n"
    "sys.stdout = sys.stderr = None",
    "stdin": "import sys\nassert sys.stdin.read() == ''",
}


@pytest.mark.parametrize("code", HARMLESS.values(), ids=HARMLESS.keys())
def test_what_an_import_does_to_the_process_does_not_stop_the_answers(modules, code):
    (modules / "odd.py").write_text(code)
    report = examine(subject("odd", "import odd"), subject("good", "import good"))
    assert report.imports["odd"].ok, report.imports["odd"].error
    assert report.imports["good"].ok
    assert report.operations["good on cpu"].ok
    assert report.crashed is None


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="Linux gives the orphans to the check"
)
@pytest.mark.parametrize(
    "end", ["", "os._exit(0)", "import time; time.sleep(60)"], ids=["goes on", "ends", "hangs"]
)
def test_what_an_import_started_ends_with_the_check(modules, tmp_path, end):
    place = tmp_path / "pid"
    (modules / "daemon.py").write_text(f"PLACE = {str(place)!r}\n{STARTS_A_DAEMON}\n{end}\n")
    started = time.monotonic()
    report = examine(subject("daemon"), timeout=6)
    assert report.imports["daemon"].ok is (end == "")
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(place.read_text()), 0)


def test_where_memory_ends_the_check_is_ended_first(modules):
    report = examine(subject("good", "assert open('/proc/self/oom_score_adj').read() == '1000\\n'"))
    assert report.operations["good on cpu"].ok or not sys.platform.startswith("linux")
