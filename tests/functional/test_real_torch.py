"""End to end with the real torch 2.13.0+cpu, real extensions and real pip: what people type, what
becomes of it.

The first run builds torch-scatter (two minutes on two cores) into the user's cache folder; later
runs find it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence
from urllib.parse import unquote, urlsplit

import pytest

from safe_install.environment.interpreter import read_environment
from safe_install.health.answers import Subject
from safe_install.health.examination import Examination
from safe_install.wheels.archive import open_wheel
from tests.functional.conftest import run_safe_install
from tests.lab import stacks
from tests.lab.warm import run_cold
from tests.treehash import read_tree
from tests.unit.wheels.crafted import make_wheel
from tests.wheelhost import WheelHost

pytestmark = [pytest.mark.slow, pytest.mark.torch]

USES_SCATTER = (
    "import torch, torch_scatter; "
    "print(torch_scatter.scatter(torch.tensor([1., 2., 3.]), torch.tensor([0, 0, 1])).tolist())"
)


# What its compiled functions say of small tensors, worked out by hand.
QUESTION = """
import torch, torch_scatter
source = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
index = torch.tensor([0, 1, 0])
print(torch_scatter.scatter(source, index, dim=1, reduce="sum").tolist())
print(torch_scatter.scatter(source, index, dim=1, reduce="max").tolist())
print(torch_scatter.segment_csr(source, torch.tensor([[0, 2, 3], [0, 1, 3]]), reduce="sum").tolist())
print(torch_scatter.segment_coo(source, torch.tensor([[0, 0, 1], [0, 1, 1]]), reduce="sum").tolist())
"""
ANSWERS = [
    "[[5.0, 2.0], [40.0, 16.0]]",
    "[[4.0, 2.0], [32.0, 16.0]]",
    "[[3.0, 4.0], [8.0, 48.0]]",
    "[[3.0, 4.0], [8.0, 48.0]]",
]
NO_WHEEL_HOST = " ".join(
    f"https://{host}=http://127.0.0.1:9" for host in ("data.pyg.org", "wheels.astral.sh")
)
DEMO = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"


def safe_install(
    environment: Path, *arguments: Any, **variables: str
) -> subprocess.CompletedProcess[str]:
    words = ["--python", str(environment / "bin" / "python"), *map(str, arguments)]
    return run_safe_install(words, {**os.environ, **variables})


def python(environment: Path, code: str) -> str:
    return subprocess.run(
        [str(environment / "bin" / "python"), "-B", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def document(done: subprocess.CompletedProcess[str]) -> Dict[str, Any]:
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise AssertionError(done.stdout + done.stderr) from None


def pip_download(folder: Path, requirement: str) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        str(folder),
    ]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{requirement} cannot be downloaded here: {done.stderr[-300:]}")
    return next(folder.glob("*.whl"))


@pytest.fixture
def tmp_path(on_disk: Path) -> Path:
    """Where `environment` is, and a second torch: gigabytes, for the memory."""
    return on_disk


@pytest.fixture(scope="session")
def built_wheel(torch_template) -> Iterator[Path]:
    """torch-scatter from PyPI's sdist, through the source build, in an environment of its own."""
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler")
    with tempfile.TemporaryDirectory(prefix="built-") as folder:
        yield build_scatter(stacks.copy_environment(torch_template, Path(folder) / "env"))


def build_scatter(folder: Path) -> Path:
    """The wheel, which lies in the cache; in the environment it works."""
    done = safe_install(folder, "torch-scatter", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    answer = document(done)
    assert answer["outcome"] == "installed"
    (step,) = answer["plan"]["steps"]
    assert step["kind"] == "built"
    assert answer["after"]["imports"]["torch_scatter"]["ok"]
    assert answer["after"]["operations"]["torch-scatter on cpu"]["ok"]
    assert python(folder, USES_SCATTER) == "[3.0, 3.0]"
    assert "ninja" not in python(folder, "import os, sys; print(os.listdir(sys.path[-1]))"), (
        "build tools stay outside"
    )
    return Path(unquote(urlsplit(step["url"]).path))


@pytest.mark.long
def test_an_sdist_is_built_against_the_installed_torch_and_then_kept(built_wheel, environment):
    before = os.times()
    words = ["--python", str(environment / "bin" / "python"), "torch-scatter"]
    done = run_cold(words, os.environ)  # its time is asked for
    assert done.returncode == 0, done.stderr
    took = os.times().children_user - before.children_user
    assert 0 < took < 30, (
        "seconds of the processor: the second environment takes the wheel from the store"
    )
    assert "Successfully installed torch-scatter-2.1.2" in done.stdout
    assert python(environment, QUESTION).split("\n") == ANSWERS


@pytest.mark.long
def test_torch_comes_into_an_empty_environment_with_an_extension_that_no_host_has(
    built_wheel, tmp_path
):
    """torch is unpacked for the build, which finds that the wheel for this very torch was built
    before."""
    folder = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    before = read_tree(folder)
    done = safe_install(
        folder, "torch==2.13.0+cpu", "torch-scatter", "--json", SAFE_INSTALL_MIRRORS=NO_WHEEL_HOST
    )
    answer = document(done)
    if "No matching distribution found for torch==2.13.0+cpu" in str(answer["error"]):
        pytest.skip("pip finds no torch 2.13.0+cpu here by itself")
    assert (done.returncode, answer["outcome"]) == (0, "installed"), answer["error"]
    (step,) = [step for step in answer["plan"]["steps"] if step["name"] == "torch-scatter"]
    assert (step["kind"], step["url"]) == ("built", built_wheel.as_uri())
    assert python(folder, QUESTION).split("\n") == ANSWERS
    assert safe_install(folder, "verify").returncode == 0
    assert safe_install(folder, "undo").returncode == 0
    assert read_tree(folder) == before


@pytest.mark.long
def test_the_built_wheel_holds_what_it_should_for_a_cpu(built_wheel):
    assert sorted(open_wheel(built_wheel).native_objects) == [
        f"torch_scatter/_{name}_cpu.so"
        for name in ("scatter", "segment_coo", "segment_csr", "version")
    ]


def install_scatter(environment: Path, host: WheelHost, cache: Path) -> Dict[str, Any]:
    variables = {"SAFE_INSTALL_MIRRORS": host.mirrors, "SAFE_INSTALL_CACHE_DIR": str(cache)}
    done = safe_install(environment, "torch-scatter", "--json", **variables)
    answer = document(done)
    assert done.returncode == 0, answer["error"]
    return answer


@pytest.mark.long
def test_a_wheel_on_a_host_with_the_layout_of_data_pyg_org_is_chosen(
    built_wheel, environment, tmp_path
):
    name = built_wheel.name
    with WheelHost() as host:
        host.add_pyg_page("2.13.0", "cpu", {name: built_wheel.read_bytes()})
        answer = install_scatter(environment, host, tmp_path / "cache")
        (step,) = answer["plan"]["steps"]
        assert step["url"] == f"https://data.pyg.org/whl/torch-2.13.0%2Bcpu/{name}"
        assert (step["kind"], step["version"]) == ("wheel", "2.1.2")
        assert host.asked(name), "the file came from the host"
    assert python(environment, USES_SCATTER) == "[3.0, 3.0]"
    assert python(environment, "import torch; print(torch.__version__)") == "2.13.0+cpu"


@pytest.mark.long
def test_a_real_wheel_whose_name_says_more_than_its_metadata(built_wheel, environment, tmp_path):
    """As flash-attn and others are published: renamed after the build. pip itself refuses it from
    such a page."""
    tags = built_wheel.name.split("-", 2)[2]
    name = f"torch_scatter-2.1.2+cpu.torch.2.13-{tags}"
    with WheelHost() as host:
        host.add_astral_page("cpu", "torch-scatter", {name: built_wheel.read_bytes()})
        answer = install_scatter(environment, host, tmp_path / "cache")
        (step,) = answer["plan"]["steps"]
        assert step["url"].endswith(name.replace("+", "%2B"))
        assert answer["plan"]["hosts"][0]["answer"] == "page-missing"
        plain = [
            str(environment / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--no-index",
            "--force-reinstall",
            "--no-deps",
        ]
        page = tmp_path / "page"
        page.mkdir()
        (page / name).write_bytes(built_wheel.read_bytes())
        refused = subprocess.run(
            [*plain, "--find-links", str(page), "torch-scatter"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode != 0
        assert "inconsistent version" in refused.stdout + refused.stderr
    assert python(environment, USES_SCATTER) == "[3.0, 3.0]"


@pytest.mark.long
def test_a_project_that_lies_on_the_package_index_alone(environment):
    done = safe_install(environment, "torchdata", "--json")
    answer = document(done)
    assert done.returncode == 0, answer["error"]
    names = {step["name"] for step in answer["plan"]["steps"]}
    assert "torchdata" in names
    assert not names & {"torch", "triton"}
    assert answer["after"]["operations"]["torchdata on cpu"]["ok"], answer["after"]
    assert python(environment, "import torch; print(torch.__version__)") == "2.13.0+cpu"


REFUSED: Sequence[Any] = (
    pytest.param(
        ["torchtext==0.18.0"], "torchtext", id="built for torch 2.3", marks=pytest.mark.long
    ),
    pytest.param(["torchattacks"], "torchvision", id="its dependency would move torch"),
    pytest.param(
        ["torchaudio==2.11.0"],
        "torchaudio",
        id="needs the libraries of a CUDA torch",
        marks=pytest.mark.long,
    ),
    pytest.param(
        ["torchvision"], "torchvision", id="PyPI has CUDA builds only", marks=pytest.mark.long
    ),
    pytest.param(
        ["torch-scatter", "torch==2.13.0", "fastai"],
        "torch",
        id="moves torch deep in its tree",
        marks=pytest.mark.long,
    ),
)


@pytest.mark.parametrize(("arguments", "culprit"), REFUSED)
def test_what_would_break_torch_is_refused_and_nothing_changes(
    environment, arguments: List[str], culprit: str
):
    before = read_tree(environment)
    done = safe_install(environment, *arguments, "--json")
    answer = document(done)
    assert done.returncode in (10, 11), answer["error"]
    assert answer["outcome"] == "refused"
    assert culprit in answer["error"]["message"]
    assert answer["error"]["hint"]
    assert read_tree(environment) == before


@pytest.mark.long
@pytest.mark.parametrize(
    ("requirement", "symptom"),
    [
        pytest.param(
            "torchtext==0.18.0", "was built for another torch (2.3): it needs", id="torchtext"
        ),
        pytest.param(
            "torchaudio==2.11.0",
            "was built for a torch with CUDA (it needs libc10_cuda.so)",
            id="torchaudio",
        ),
    ],
)
def test_a_wheel_named_by_its_path_that_would_not_load_is_refused(
    environment, tmp_path, requirement, symptom
):
    wheel = pip_download(tmp_path / "wheels", requirement)
    plain = stacks.copy_environment(environment, tmp_path / "plain")
    before = read_tree(environment)
    done = safe_install(environment, wheel, "--no-deps", "--json")
    answer = document(done)
    assert done.returncode == 11, answer
    assert answer["outcome"] == "refused"
    assert any(symptom in finding["detail"] for finding in answer["findings"])
    assert read_tree(environment) == before
    # pip, asked for the same, is content.
    pip = [str(plain / "bin" / "python"), "-m", "pip", "install", "-q", "--no-deps", str(wheel)]
    assert subprocess.run(pip, capture_output=True, check=False).returncode == 0


@pytest.mark.long
def test_check_wheel_says_what_fits_and_what_is_missing(
    built_wheel, environment, torch_template, tmp_path
):
    before = read_tree(environment)
    fits = safe_install(environment, "check-wheel", built_wheel)
    assert (fits.returncode, fits.stderr) == (0, "")
    assert fits.stdout == f"{built_wheel.name}: fits torch 2.13.0+cpu\n"
    other = pip_download(tmp_path / "wheels", "torchtext==0.18.0")
    # The name and the flavour in it are not what is judged.
    renamed = tmp_path / other.name.replace("0.18.0", "0.18.0+cxx11abiTRUE.torch2.13")
    shutil.copy(other, renamed)
    for wheel in (other, renamed):
        if wheel is renamed:
            # An unpacked torch does as well as an installed one.
            unpacked = next((torch_template / "lib").glob("python*")) / "site-packages"
            done = safe_install(
                environment, "check-wheel", wheel, "--json", "--torch-dir", unpacked
            )
        else:
            done = safe_install(environment, "check-wheel", wheel, "--json")
        answer = document(done)
        assert (done.returncode, answer["outcome"]) == (1, "does-not-fit"), answer
        (told,) = answer["details"]["wheels"].values()
        lost = {one["file"]: one for one in told["objects"]}["torchtext/lib/libtorchtext.so"]
        assert lost["verdict"] == "does-not-load"
        assert lost["built_for_torch"] == ["2.3"]
        assert any(
            "torch::Library::Library(" in symbol["demangled"] for symbol in lost["missing_symbols"]
        )
        assert any("(old C++ ABI)" in finding["detail"] for finding in answer["findings"])
    assert read_tree(environment) == before


@pytest.mark.long
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_what_links_the_driver_is_not_broken_where_there_is_none(environment, tmp_path):
    """As on a machine that builds images. pip's answer is the same; ours says what could not be
    asked."""
    torch_lib = next((environment / "lib").glob("python*")) / "site-packages" / "torch" / "lib"
    (tmp_path / "driver.c").write_text("int cuInit(unsigned flags) { return 0; }\n")
    (tmp_path / "demo.c").write_text("int cuInit(unsigned); int demo(void) { return cuInit(0); }\n")
    gcc = ["gcc", "-shared", "-fPIC", "-Wl,--no-as-needed"]
    for words in (
        ["-Wl,-soname,libcuda.so.1", "-o", tmp_path / "libcuda.so", tmp_path / "driver.c"],
        [
            "-o",
            tmp_path / "libdemo.so",
            tmp_path / "demo.c",
            f"-L{torch_lib}",
            f"-L{tmp_path}",
            "-lc10",
            "-lcuda",
        ],
    ):
        subprocess.run([*gcc, *map(str, words)], check=True)
    files = {
        "demo/__init__.py": "import ctypes, os, torch\n"
        "ctypes.CDLL(os.path.join(os.path.dirname(__file__), 'libdemo.so'), os.RTLD_NOW)\n",
        "demo/libdemo.so": (tmp_path / "libdemo.so").read_bytes(),
    }
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    wheel = make_wheel(
        tmp_path, files, filename=f"demo-1.0-{tag}-{tag}-linux_x86_64.whl", metadata=DEMO
    )
    done = safe_install(environment, wheel, "--json")
    answer = document(done)
    assert done.returncode == 0, answer["error"]
    if answer["environment"]["driver"] is None:
        told = {finding["check"]: finding for finding in answer["findings"]}
        assert "libcuda.so.1 of the driver, which is not here" in told["needs-driver"]["detail"]
        assert told["import-failed"]["severity"] == "warning"
        assert "libcuda.so.1" in told["import-failed"]["detail"]


BREAK = ("--dry-run", "--no-rollback")


@pytest.mark.long
def test_a_torch_that_is_asked_for_names_what_it_would_break(built_wheel, environment, tmp_path):
    assert safe_install(environment, built_wheel, "--no-deps").returncode == 0
    before = read_tree(environment)
    # A dry run asks a wheel for its metadata only.
    make_wheel(
        tmp_path,
        {"torch/version.py": "__version__ = '2.12.0'\n"},
        filename="torch-2.12.0-py3-none-any.whl",
        metadata="Metadata-Version: 2.1\nName: torch\nVersion: 2.12.0\n",
        wheel="Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        dist_info="torch-2.12.0.dist-info",
    )
    words = (
        "--json",
        "--no-deps",
        "--no-index",
        "--find-links",
        tmp_path,
        "--allow-torch-change",
        "torch==2.12.0",
    )
    held = safe_install(environment, *words)
    assert (held.returncode, document(held)["error"]["code"]) == (10, "no-candidate"), held.stderr
    hint = document(held)["error"]["hint"]
    assert hint.endswith("safe-install uninstall torch-scatter."), "to keep it is refused below"
    words = ("--keep-extensions", *words)
    for more, exit_status, severity in (
        ((), 11, "error"),
        (("--dry-run",), 11, "error"),
        (BREAK, 0, "warning"),
    ):
        done = safe_install(environment, *more, *words)
        answer = document(done)
        assert done.returncode == exit_status, answer
        (broken,) = [
            finding for finding in answer["findings"] if finding["check"] == "breaks-with-torch"
        ]
        assert broken["subject"] == "torch-scatter"
        assert broken["severity"] == severity
        assert "was built for torch 2.13" in broken["detail"]
        assert "safe-install torch==2.12.0 torch-scatter" in broken["hint"]
        assert answer["transaction"] is None
    same = document(
        safe_install(
            environment, "--dry-run", "--json", "--no-deps", "--force-reinstall", "torch==2.13.0"
        )
    )
    assert [step["name"] for step in same["plan"]["steps"]] == ["torch"]
    assert not same["findings"]
    assert read_tree(environment) == before


@pytest.mark.long
def test_torch_itself_is_replaced_verified_and_put_back(environment, torch_template):
    before = read_tree(environment)
    done = safe_install(environment, "--force-reinstall", "--no-deps", "torch==2.13.0")
    assert done.returncode == 0, done.stderr
    assert python(environment, "import torch; print(torch.__version__)") == "2.13.0+cpu"
    undone = safe_install(environment, "undo")
    assert undone.returncode == 0, undone.stderr
    assert read_tree(environment) == before
    assert python(environment, "import torch; print(torch.ones(2).sum().item())") == "2.0"


def test_verify_says_healthy_and_require_cuda_says_why_not(environment):
    assert safe_install(environment, "verify").returncode == 0
    done = safe_install(environment, "verify", "--require-cuda", "--json")
    assert done.returncode == 1
    assert any(finding["check"] == "cuda-required" for finding in document(done)["findings"])


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
def test_verify_names_every_extension_that_torch_breaks(environment, tmp_path):
    """Of a project that the wheel index does not know, and whose Python code says nothing."""
    torch_lib = next((environment / "lib").glob("python*")) / "site-packages" / "torch" / "lib"
    (tmp_path / "demo.c").write_text(
        "int _ZN2at4goneEv(void); int demo(void) { return _ZN2at4goneEv(); }\n"
    )
    gcc = [
        "gcc",
        "-shared",
        "-fPIC",
        "-Wl,--no-as-needed",
        "-o",
        tmp_path / "libdemo.so",
        tmp_path / "demo.c",
    ]
    subprocess.run([*map(str, gcc), f"-L{torch_lib}", "-lc10"], check=True)
    files = {"demo/__init__.py": "", "demo/libdemo.so": (tmp_path / "libdemo.so").read_bytes()}
    wheel = make_wheel(
        tmp_path, files, filename="demo-1.0-py3-none-linux_x86_64.whl", metadata=DEMO
    )
    refused = safe_install(environment, wheel, "--json")
    assert refused.returncode == 11
    assert document(refused)["findings"][0]["check"] == "does-not-load"
    subprocess.run(
        [str(environment / "bin" / "python"), "-m", "pip", "install", "-q", str(wheel)], check=True
    )
    answer = document(safe_install(environment, "verify", "--json"))
    (found,) = answer["findings"]
    assert (found["check"], found["severity"], found["subject"]) == (
        "does-not-load",
        "warning",
        "demo",
    )
    assert "at::gone()" in found["detail"]
    assert answer["exit_code"] == 0


@pytest.mark.long
def test_a_dry_run_builds_nothing_and_names_what_metadata_hides(environment, tmp_path):
    before = read_tree(environment)
    done = safe_install(
        environment,
        "--dry-run",
        "--json",
        "torch-sparse",
        "six",
        SAFE_INSTALL_CACHE_DIR=str(tmp_path / "empty"),
    )
    answer = document(done)
    assert done.returncode == 0, answer["error"]
    steps = {step["name"]: step for step in answer["plan"]["steps"]}
    assert steps["torch-sparse"]["kind"] == "sdist"
    assert steps["torch-scatter"]["because"] == "torch-sparse 0.6.18 needs torch-scatter"
    assert steps["six"]["requested"]
    assert (steps["scipy"]["requested"], steps["scipy"]["because"]) == (
        False,
        "torch-sparse 0.6.18 needs scipy",
    )
    assert not list((tmp_path / "empty").glob("built/*"))
    assert read_tree(environment) == before


# --- twins: one process loads one of them ---------------------------------------------------------

# What TORCH_LIBRARY(twin_demo, m) comes to, without the headers of torch, which take half a minute
# to compile.
REGISTERS = """
#include <cstdint>
#include <new>
#include <optional>
#include <string>
namespace c10 { enum class DispatchKey : uint16_t; }
namespace torch {
class Library {
 public:
  enum Kind { DEF, IMPL, FRAGMENT };
  Library(Kind, std::string, std::optional<c10::DispatchKey>, const char*, uint32_t);
};
}
alignas(16) static char place[4096];
__attribute__((constructor)) static void at_load() {
  new (place) torch::Library(torch::Library::DEF, "twin_demo", std::nullopt, __FILE__, __LINE__);
}
"""


def with_cuda_twins(
    wheel: Path, folder: Path, broken: Sequence[str] = (), instead: bytes = b""
) -> Path:
    """The wheel as a CUDA build has its files: each `_x_cpu.so` once more as `_x_cuda.so`, some of
    them `instead`."""
    with zipfile.ZipFile(wheel) as archive:
        files = {
            name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name
        }
    for name in [name for name in files if name.endswith("_cpu.so")]:
        twin = name.replace("_cpu.so", "_cuda.so")
        files[twin] = instead if twin in broken else files[name]
    metadata = "Metadata-Version: 2.1\nName: torch-scatter\nVersion: 2.1.2\n"
    folder.mkdir()
    info = "torch_scatter-2.1.2.dist-info"
    return make_wheel(folder, files, filename=wheel.name, metadata=metadata, dist_info=info)


def link_object(path: Path, source: str, *options: str) -> bytes:
    path.with_suffix(".cpp").write_text(source)
    compiler = [
        "g++",
        "-std=c++17",
        "-shared",
        "-fPIC",
        "-o",
        str(path),
        str(path.with_suffix(".cpp")),
    ]
    subprocess.run([*compiler, *options], check=True)
    return path.read_bytes()


@pytest.mark.long
def test_twins_that_register_the_same_operators_are_healthy(built_wheel, environment, tmp_path):
    wheel = with_cuda_twins(built_wheel, tmp_path / "twins")
    done = safe_install(environment, wheel, "--no-deps", "--json")
    assert done.returncode == 0, document(done)["error"]
    assert document(done)["after"]["operations"]["torch-scatter native part"]["ok"]
    assert python(environment, QUESTION).split("\n") == ANSWERS
    verified = safe_install(environment, "verify", "--json")
    assert (verified.returncode, document(verified)["outcome"]) == (0, "healthy")
    assert safe_install(environment, "check-wheel", wheel).returncode == 0


@pytest.mark.long
def test_a_twin_that_is_taken_and_broken_is_taken_back(built_wheel, environment, tmp_path):
    aborts = (
        "#include <stdexcept>\n__attribute__((constructor)) static void f() { throw "
        'std::runtime_error("no luck"); }'
    )
    instead = link_object(tmp_path / "aborts.so", aborts)
    wheel = with_cuda_twins(
        built_wheel, tmp_path / "twins", ["torch_scatter/_scatter_cuda.so"], instead
    )
    before = read_tree(environment)
    done = safe_install(environment, wheel, "--no-deps", "--json")
    assert done.returncode == 12
    details = [finding["detail"] for finding in document(done)["findings"]]
    assert "torch_scatter does not import: signal SIGABRT (no luck)" in details
    assert read_tree(environment) == before
    pip = [
        str(environment / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        str(wheel),
    ]
    subprocess.run(pip, check=True)
    assert safe_install(environment, "verify").returncode == 1


@pytest.mark.long
def test_a_twin_that_lacks_a_symbol_is_refused(built_wheel, environment, tmp_path):
    instead = link_object(
        tmp_path / "lacks.so", 'extern "C" void nobody_has_it();\nvoid (*needed)() = nobody_has_it;'
    )
    wheel = with_cuda_twins(
        built_wheel, tmp_path / "twins", ["torch_scatter/_scatter_cuda.so"], instead
    )
    done = safe_install(environment, wheel, "--no-deps")
    assert done.returncode == 11
    assert "nobody_has_it" in done.stderr


@pytest.mark.long
def test_what_torch_says_of_operators_that_are_registered_twice(environment, tmp_path):
    """Not known as twins, and none of them loaded by the import: each is loaded without the
    other."""
    site = next((environment / "lib").glob("python*")) / "site-packages"
    package = site / "twin_demo"
    package.mkdir()
    options = [f"-L{site / 'torch' / 'lib'}", "-Wl,--no-as-needed", "-lc10", "-ltorch_cpu"]
    object_ = link_object(tmp_path / "_x.so", REGISTERS, *options)
    for name in ("_x_cpu.so", "_x_cuda.so"):
        (package / name).write_bytes(object_)
    load_both = "import ctypes; [ctypes.CDLL(%r + name) for name in ('/_x_cpu.so', '/_x_cuda.so')]"
    (package / "__init__.py").write_text("")
    found = read_environment(environment / "bin" / "python", None)
    twins = Subject("twin-demo", ("twin_demo",), ("twin_demo/_*.so",), None)
    both = Subject("both", (), (), load_both % str(package))
    report = Examination(found.interpreter.executable, found.torch, [twins, both]).result()
    assert report.operations["twin-demo native part"].ok, report.operations
    error = report.operations["both on cpu"].error
    assert error.startswith(
        "signal SIGABRT (Only a single TORCH_LIBRARY can be used to register the namespace "
        "twin_demo"
    )
