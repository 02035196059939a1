"""`doctor --fix` in environments that are really broken, with hosts that answer as the real ones do:
afterwards the tree is the one before the break."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.choice import long_unless
from tests.functional.conftest import any_python, read_document, run_process
from tests.functional.doctor_lab import checks_with_errors, findings_of, run_doctor
from tests.functional.doctor_lab import make_lab as make_lab
from tests.lab.breakage import RECIPES, Lab
from tests.lab.breakage.recipe import CPU, CUDA, OLD
from tests.lab.breakage.torch_parts import extend_torch
from tests.lab.wheels import TORCHES, _link, write_wheel

INIT = "torch/__init__.py"
BY_NAME = {recipe.name: recipe for recipe in RECIPES}
PUT_RIGHT = (
    "a library of torch is gone",
    "a module of torch is gone",
    "a library of torch is cut",
    "all files of torch are gone",
    "pip was killed while it replaced torch",
    "pip left a folder beside a whole torch",
    "an nvidia library is not there",
    "an nvidia library of another version",
    "an nccl that was uninstalled again",
    "what torch requires was deleted by hand",
    "what torch requires was uninstalled",
    "half of an environment was copied",
    "a power cut left zeros",
    "two metadata folders of torch",
    "a folder in the place of a library",
    "metadata once more in capital letters",
)
QUICK = ("a library of torch is gone", "pip was killed while it replaced torch")
TAG = "cp{0}-cp{0}-manylinux_2_28_x86_64".format(any_python().replace(".", ""))


def assert_put_right(lab, document, healthy) -> None:
    """No error is left, and all files are those of before."""
    assert checks_with_errors(document) == [], document["findings"]
    assert (document["exit_code"], document["outcome"]) == (0, "healthy")
    assert less_requested(lab.environment.tree(), healthy) == healthy


def less_requested(tree, healthy):
    """What torch requires was not asked for by name before: `--fix` names it, and pip and we mark
    that, in a file and in its RECORD."""
    marks = [path for path in tree if path.endswith("/REQUESTED") and path not in healthy]
    records = [path.replace("/REQUESTED", "/RECORD") for path in marks]
    rest = {path: row for path, row in tree.items() if path not in marks}
    return {**rest, **{path: healthy[path] for path in records}}


@pytest.mark.parametrize("name", long_unless(lambda name: name in QUICK, PUT_RIGHT))
def test_files_come_back(name, make_lab):
    recipe = BY_NAME[name]
    lab = make_lab(recipe.base)
    healthy = lab.environment.tree()
    recipe.breaks(lab)
    broken = lab.environment.tree()
    assert broken != healthy
    document = run_doctor(lab, "--fix")
    assert_put_right(lab, document, healthy)
    for line in document["details"]["undo"]:
        undone = lab.environment.document(*line.split()[1:])
        assert undone["transaction"], undone
    assert lab.environment.tree() == broken, "as it was printed, so it works"


def test_a_library_that_another_package_wrote_over(make_lab):
    lab = make_lab(CUDA)
    library = lab.site / "nvidia/nccl/lib/libnccl.so.2"
    right = library.read_bytes()
    BY_NAME["another nccl over the one of torch"].breaks(lab)
    assert library.read_bytes() != right
    assert checks_with_errors(run_doctor(lab, "--fix")) == []
    assert library.read_bytes() == right


@pytest.mark.long
def test_a_numpy_that_torch_cannot_use(make_lab):
    lab = make_lab((*OLD, "numpy==1.26.4"))
    healthy = lab.environment.tree()
    lab.must_pip("--no-compile", "numpy==2.0.0")
    assert_put_right(lab, run_doctor(lab, "--fix"), healthy)


@pytest.mark.long
def test_what_came_from_a_file_comes_back_from_it(make_lab):
    lab = make_lab()
    wheel = write_wheel(lab.folder, "alpha", "1.0", {"alpha/__init__.py": ""})
    # Not by pip: Debian's does not write down what its hash was.
    assert lab.environment.document("install", str(wheel))["exit_code"] == 0
    healthy = lab.environment.tree()
    (lab.site / "alpha" / "__init__.py").unlink()
    document = run_doctor(lab, "--fix", "records")
    assert_put_right(lab, document, healthy)
    (lab.site / "alpha" / "__init__.py").unlink()
    wheel.unlink()
    broken = lab.environment.tree()
    failed = failing_fix(lab, "records")
    assert failed.returncode == 1
    assert "alpha==1.0" in failed.stderr
    assert lab.environment.tree() == broken


# --- what interrupted pips left --------------------------------------------------------------------


def move_aside(lab: Lab, *names: str) -> None:
    """As a pip does that is killed then."""
    for name in names:
        for path in (lab.site / name, lab.info(name)):
            path.rename(path.with_name(f"~{path.name[1:]}"))


def write_packages(lab: Lab, **codes: str) -> None:
    for name, code in codes.items():
        lab.must_pip(str(write_wheel(lab.folder, name, "1.0", {f"{name}/__init__.py": code})))


def test_what_several_pips_left_is_put_right_in_one_change(make_lab):
    lab = make_lab()
    write_packages(lab, alpha="", beta="")
    healthy = lab.environment.tree()
    move_aside(lab, "torch", "alpha")
    shutil.copytree(lab.site / "beta", lab.site / "~eta")
    broken = lab.environment.tree()
    document = run_doctor(lab, "--fix", "interrupted-pip")
    assert_put_right(lab, document, healthy)
    (change,) = lab.environment.document("history")["details"]["history"]
    assert document["details"]["undo"] == [f"safe-install undo {change['id']}"]
    assert lab.environment.document("undo", change["id"])["outcome"] == "undone"
    assert lab.environment.tree() == broken


@pytest.mark.long
def test_one_that_breaks_torch_keeps_no_other_from_being_put_back(make_lab):
    lab = make_lab()
    extend_torch(lab, INIT, before="try:\n    import alpha\nexcept ImportError:\n    pass\n")
    write_packages(lab, alpha="raise RuntimeError('not with this torch')\n", beta="")
    move_aside(lab, "alpha", "beta")
    document = lab.environment.document("recover")
    told = {row["distribution"]: row for row in document["details"]["leftovers"]}
    assert document["exit_code"] == 12
    assert (told["alpha 1.0"]["what"], told["alpha 1.0"]["transaction"]) == ("rolled-back", None)
    assert told["beta 1.0"]["what"] == "put-back"
    (change,) = lab.environment.document("history")["details"]["history"]
    assert change["id"] == told["beta 1.0"]["transaction"]
    assert (lab.site / "~lpha").is_dir()
    assert not (lab.site / "~eta").exists()


# --- from the history -----------------------------------------------------------------------------

COMMAND = "[console_scripts]\nalpha-told = alpha:told\n"


def write_alpha(folder: Path, version: str) -> Path:
    """A package with a command, and a file that lies elsewhere."""
    files = {
        "alpha/__init__.py": f"def told():\n    print({version!r})\n",
        f"alpha-{version}.dist-info/entry_points.txt": COMMAND,
        f"alpha-{version}.data/data/share/alpha/notes": version,
    }
    return write_wheel(folder, "alpha", version, files)


@pytest.fixture
def make_past(make_lab):
    """alpha 1.0 and 2.0 by us, and 1.0 once more by pip; no host has it any more."""

    def make(*, by_path: bool):
        lab = make_lab()
        folder = lab.folder / "alphas"
        wheels = [write_alpha(folder, version) for version in ("1.0", "2.0")]
        lab.variables["PIP_FIND_LINKS"] = str(folder)
        install(lab, "alpha==1.0")
        install(lab, "alpha==2.0")
        wanted = str(wheels[0]) if by_path else "alpha==1.0"
        lab.environment.must_pip("install", wanted)
        for wheel in wheels:
            wheel.unlink()
        return lab

    return make


@pytest.mark.long
@pytest.mark.parametrize("by_path", [False, True], ids=["by name", "by path"])
def test_what_no_host_has_comes_back_from_the_history(make_past, by_path):
    lab = make_past(by_path=by_path)
    healthy = lab.environment.tree()
    (lab.site / "alpha" / "__init__.py").unlink()
    (lab.environment.prefix / "share" / "alpha" / "notes").write_text("edited")
    assert_put_right(lab, run_doctor(lab, "--fix", "records"), healthy)
    assert (lab.info("alpha") / "direct_url.json").exists() is by_path
    told = run_process([str(lab.environment.prefix / "bin" / "alpha-told")], lab.variables)
    assert told.stdout == "1.0\n"


@pytest.mark.long
def test_a_torch_that_no_host_has_comes_back_from_the_history(make_lab):
    lab = make_lab()
    install(lab, "--force-reinstall", "--no-deps", "torch==2.13.0+cpu")
    healthy = lab.environment.tree()
    lab.variables["PIP_FIND_LINKS"] = ""
    (lab.torch / "lib" / "libc10.so").unlink()
    assert_put_right(lab, run_doctor(lab, "--fix"), healthy)


@pytest.mark.long
def test_the_history_of_another_content_is_not_what_was_recorded(make_past):
    lab = make_past(by_path=False)
    for kept in lab.environment.prefix.glob(".safe-install/txn-*/**/notes"):
        kept.write_text("changed")
    (lab.site / "alpha" / "__init__.py").unlink()
    broken = lab.environment.tree()
    failed = failing_fix(lab, "records")
    assert "alpha==1.0" in failed.stderr
    assert lab.environment.tree() == broken


# --- from hosts -----------------------------------------------------------------------------------


@pytest.fixture
def make_served(make_lab, host):
    """`make_served(CUDA)`: a lab whose wheel hosts and package index answer."""

    def make(base):
        lab = make_lab(base)
        lab.variables.update(SAFE_INSTALL_MIRRORS=host.mirrors, PIP_INDEX_URL=host.index_url)
        lab.variables["PIP_NO_INDEX"] = "0"
        return lab

    return make


# A build without CUDA has no kernel for it, as torchvision says it.
VISION = """\
import ctypes, os, types
import torch
ctypes.CDLL(os.path.join(os.path.dirname(__file__), "_C.so"))

def nms(boxes, scores, threshold):
    if boxes.device == "cuda" and {accelerator!r} == "cpu":
        raise NotImplementedError("Could not run 'torchvision::nms' from the 'CUDA' backend")
    return torch.tensor([0])

ops = types.SimpleNamespace(nms=nms)
"""


def make_vision(lab: Lab, version: str, torch: str, *, requires: str = "") -> Path:
    """A torchvision that is linked against the torch of the lab."""
    accelerator = version.partition("+")[2]
    library = _link(
        lab.folder / version / "_C.so",
        wants=[f"{TORCHES[torch].symbol}_cpu"],
        needs=[lab.torch / "lib" / name for name in ("libc10.so", "libtorch_cpu.so")],
    )
    files = {
        "torchvision/__init__.py": VISION.format(accelerator=accelerator),
        "torchvision/_C.so": library.read_bytes(),
    }
    needed = [requires] if requires else []
    return write_wheel(lab.folder, "torchvision", version, files, requires=needed, tag=TAG)


def install(lab: Lab, *words: str) -> None:
    """As a person does it, before something breaks."""
    done = lab.environment.safe_install("install", *words)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("base", "torch", "right", "wrong", "requires"),
    [
        (CUDA, "2.14.1+cu130", "0.29.1+cu130", "0.29.1+cpu", ""),
        (CPU, "2.13.0+cpu", "0.28.0+cpu", "0.20.1+cpu", "torch==2.5.1"),
    ],
    ids=["of another accelerator", "of another torch"],
)
def test_a_companion_is_chosen_again(make_served, host, base, torch, right, wrong, requires):
    lab = make_served(base)
    wheel = make_vision(lab, right, torch)
    page = right.partition("+")[2]
    host.add_pytorch_page(page, "torchvision", {wheel.name: wheel.read_bytes()})
    install(lab, "torchvision")
    healthy = lab.environment.tree()
    lab.must_pip("--force-reinstall", str(make_vision(lab, wrong, torch, requires=requires)))
    assert "companions" in checks_with_errors(run_doctor(lab))
    document = run_doctor(lab, "--fix")
    assert_put_right(lab, document, healthy)
    assert host.asked(f"/pytorch/whl/{page}/torchvision")


def test_an_extension_of_another_torch_is_chosen_again(make_served, host):
    lab = make_served(OLD)
    (right,) = (lab.extensions / "1.8.1+cu111").glob("*.whl")
    host.add_pyg_page("1.8.1", "cu111", {right.name: right.read_bytes()}, base="1.8.0")
    install(lab, "torch-scatter")
    healthy = lab.environment.tree()
    (foreign,) = lab.foreign.glob("*.whl")
    lab.must_pip("--force-reinstall", str(foreign))
    assert checks_with_errors(run_doctor(lab)) == ["extension-imports"]
    assert_put_right(lab, run_doctor(lab, "--fix"), healthy)
    host.stop()
    (lab.site / "torch_scatter" / "_scatter_cpu.so").unlink()
    document = run_doctor(lab, "--fix", "records")
    assert_put_right(lab, document, healthy)


# --- what does not help ---------------------------------------------------------------------------


def failing_fix(lab: Lab, *words: str):
    """`doctor --fix` that ends with an error."""
    command = [sys.executable, "-m", "safe_install", "doctor", "--fix", *words]
    named = ["--python", str(lab.environment.executable)]
    done = run_process([*command, *named], lab.variables, cwd=lab.folder)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.long
def test_what_is_no_better_is_taken_back(make_lab):
    lab = make_lab((*OLD, "numpy==2.0.0"))
    broken = lab.environment.tree()
    folder = lab.folder / "numpy-of-nobody"
    write_wheel(folder, "numpy", "1.26.4", {"numpy/__init__.py": "__version__ = '1.26.4'\n"})
    lab.variables["PIP_FIND_LINKS"] = str(folder)
    document = run_doctor(lab, "--fix")
    assert (document["exit_code"], document["outcome"]) == (1, "unhealthy")
    assert document["transaction"] is None
    assert [one["check"] for one in findings_of(document, "numpy")] == ["numpy-too-new"]
    assert lab.environment.tree() == broken
    assert len(lab.environment.document("history")["details"]["history"]) == 2


TRITON = "def cdiv(one, other):\n    return -(-one // other)\n"


def with_two_compilers(lab: Lab) -> None:
    """torch requires the one that belongs to it."""
    for name, version in (("triton", "3.7.1"), ("pytorch-triton", "3.4.0")):
        lab.must_pip(str(write_triton(lab.folder, name, version)))
    with (lab.info("torch") / "METADATA").open("a") as metadata:
        metadata.write("Requires-Dist: triton==3.7.1\n")


def write_triton(folder: Path, name: str, version: str) -> Path:
    return write_wheel(folder, name, version, {"triton/__init__.py": TRITON + f"# {name}\n"})


def test_where_what_comes_is_refused_nothing_goes(make_lab):
    lab = make_lab()
    with_two_compilers(lab)
    broken = lab.environment.tree()
    failed = failing_fix(lab)
    assert failed.returncode == 10, "nobody has it"
    assert lab.environment.tree() == broken
    assert lab.environment.document("history")["details"]["history"] == []


def serve_triton(lab: Lab) -> None:
    folder = lab.folder / "tritons"
    write_triton(folder, "triton", "3.7.1")
    lab.variables["PIP_FIND_LINKS"] = str(folder)


def test_what_goes_and_what_comes_is_one_change(make_lab):
    lab = make_lab()
    with_two_compilers(lab)
    broken = lab.environment.tree()
    serve_triton(lab)
    document = run_doctor(lab, "--fix")
    assert checks_with_errors(document) == [], document["findings"]
    assert (lab.site / "triton" / "__init__.py").read_text().endswith("# triton\n")
    assert not [*lab.site.glob("pytorch_triton-*")]
    (line,) = document["details"]["undo"]
    (change,) = lab.environment.document("history")["details"]["history"]
    assert (change["id"], line) == (document["transaction"], f"safe-install undo {change['id']}")
    assert (change["command"][1], change["command"][-1]) == ("doctor", "--fix")
    assert lab.environment.document(*line.split()[1:])["outcome"] == "undone"
    assert lab.environment.tree() == broken


# Ctrl-C when doctor begins to look again.
INTERRUPTED = """
import os, signal, sys, time
from safe_install.cli.main import main
from safe_install.commands import doctor

examine, asked = doctor.doctor, []

def pressed(*words, **options):
    asked.append(words)
    if len(asked) > 1:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    return examine(*words, **options)

doctor.doctor = pressed
sys.exit(main(sys.argv[1:]))
"""


def test_Ctrl_C_before_doctor_has_looked_again_takes_the_change_back(make_lab):
    lab = make_lab()
    with_two_compilers(lab)
    broken = lab.environment.tree()
    serve_triton(lab)
    words = ["doctor", "--fix", "--json", "--python", str(lab.environment.executable)]
    done = run_process([sys.executable, "-c", INTERRUPTED, *words], lab.variables, cwd=lab.folder)
    assert "what was changed is taken back" in done.stderr
    assert "interrupted: nothing was changed" in read_document(done)["error"]["message"]
    assert done.returncode == 130
    assert lab.environment.tree() == broken
    assert len(lab.environment.document("history")["details"]["history"]) == 2


# --- what is only shown ---------------------------------------------------------------------------


def test_a_dry_run_changes_nothing(make_lab):
    recipe = BY_NAME["a library of torch is gone"]
    lab = make_lab(recipe.base)
    recipe.breaks(lab)
    broken = lab.environment.tree()
    document = run_doctor(lab, "--fix", "--dry-run")
    mends = document["details"]["mends"]
    assert mends == {"recovers": False, "removed": [], "installed": ["torch==2.13.0+cpu"]}
    assert document["exit_code"] == 1
    assert lab.environment.tree() == broken


def test_what_lies_outside_is_only_told(make_lab):
    recipe = BY_NAME["the driver is too old"]
    lab = make_lab(recipe.base)
    recipe.breaks(lab)
    before = lab.environment.tree()
    document = run_doctor(lab, "--fix")
    assert document["details"]["mends"] == {"recovers": False, "removed": [], "installed": []}
    assert len(document["details"]["outside"]) == 1
    assert lab.environment.tree() == before
