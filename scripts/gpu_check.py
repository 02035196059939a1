"""A real torch, a real GPU, a real CUDA extension: installed, used, defended and taken back. Standard library only.

Two steps, because a machine with a GPU often has no network and no compiler:

    scripts/gpu_check --prepare FOLDER [--torch 2.14.1] [--gpu 9.0+PTX] [--extension torch-scatter] [--no-torch]
    scripts/gpu_check FOLDER [--use-python PATH] [--result FILE]

The first collects wheels for the Python that runs it: torch with its NVIDIA libraries, an extension that is compiled
here for this torch and that GPU, safe-install with its dependencies, pip, and a package that would replace torch.
The second needs that folder and nothing else. It exits with 0 only when every step passed; a step that could not run is
reported as not run, and is no success. With --use-python the environment of that interpreter, which has a CUDA torch
already (the same version as in --prepare), is changed and put back; else one is made and thrown away.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence
from urllib.parse import unquote, urlsplit

LIMIT = 6 * 60  # seconds for everything on the machine with the GPU
SOURCE = Path(__file__).resolve().parents[1]
HARMFUL = "older-torch-tools"
OTHER_TORCH = "1.0.0"
# What the extension's own kernels compute on the GPU is compared with what its code for the CPU computes.
OPERATIONS = {
    "torch-scatter": """
import torch, torch_scatter
source = torch.rand(100000, 8, generator=torch.Generator().manual_seed(0))
pointer = torch.arange(0, 100001, 10)
on_cpu = torch_scatter.segment_csr(source, pointer, reduce="sum")
on_gpu = torch_scatter.segment_csr(source.cuda(), pointer.cuda(), reduce="sum").cpu()
assert torch.allclose(on_cpu, on_gpu, atol=1e-4), (on_cpu - on_gpu).abs().max()
index = torch.arange(100000) // 10
largest = torch_scatter.scatter(source.cuda(), index.cuda(), dim=0, reduce="max").cpu()
assert torch.equal(largest, source.view(10000, 10, 8).max(dim=1).values)
print("segment_csr and scatter(max) of 100000 x 8 on", torch.cuda.get_device_name(0))
""",
    "torch-spline-conv": """
import torch, torch_spline_conv
pseudo = torch.rand(100000, 2, generator=torch.Generator().manual_seed(0))
size, is_open = torch.tensor([5, 5]), torch.tensor([1, 1], dtype=torch.uint8)
on_cpu = torch.ops.torch_spline_conv.spline_basis(pseudo, size, is_open, 1)
on_gpu = torch.ops.torch_spline_conv.spline_basis(pseudo.cuda(), size.cuda(), is_open.cuda(), 1)
assert torch.allclose(on_cpu[0], on_gpu[0].cpu(), atol=1e-5)
assert torch.equal(on_cpu[1], on_gpu[1].cpu())
print("spline_basis of 100000 x 2 on", torch.cuda.get_device_name(0))
""",
}
ASK_TORCH = """
import json, torch
answer = {"version": torch.__version__, "file": torch.__file__, "available": torch.cuda.is_available()}
if answer["available"]:
    answer["devices"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    answer["capability"] = "%d.%d" % torch.cuda.get_device_capability(0)
print(json.dumps(answer))
"""
COMPUTE = """
import torch
left, right = torch.rand(512, 512, dtype=torch.float64), torch.rand(512, 512, dtype=torch.float64)
assert torch.allclose(left @ right, (left.cuda() @ right.cuda()).cpu())
print("a product of 512 x 512 agrees with the CPU's")
"""


class StepFailed(Exception):
    """A step did not end as it should; the text says what was seen."""


# --- processes --------------------------------------------------------------------------------------


def run(command: Sequence[object], *, env: Mapping[str, str], limit: Optional[float] = None) -> Any:
    """A child process; a time limit that passes is an answer like any other."""
    words = [str(word) for word in command]
    try:
        return subprocess.run(words, env=dict(env), capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"no answer within {limit:.0f} s")


def must(command: Sequence[object], *, env: Mapping[str, str], limit: Optional[float] = None) -> str:
    """A child process that has to succeed; what it printed."""
    done = run(command, env=env, limit=limit)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-6:]
        raise StepFailed(f"{Path(str(command[0])).name} ended with {done.returncode}: {' / '.join(last)}")
    return str(done.stdout)


def clean_environment(**more: str) -> Dict[str, str]:
    """Nothing of another environment, and no package index."""
    foreign = ("PIP_", "SAFE_INSTALL_", "UV_", "PYTHON", "VIRTUAL_ENV", "CONDA_", "TORCH_CUDA")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", **more}


def make_venv(python: object, folder: Path, pip: Path, env: Mapping[str, str], limit: Optional[float] = None) -> Path:
    """A virtual environment with the carried pip: ensurepip is missing on some systems. Its interpreter."""
    must([python, "-m", "venv", "--without-pip", folder], env=env, limit=limit)
    executable = folder / "bin" / "python"
    must([executable, pip / "pip", "install", "--quiet", "--no-index", "--no-deps", pip], env=env, limit=limit)
    return executable


# --- on the machine with a network ------------------------------------------------------------------


def prepare(folder: Path, options: argparse.Namespace) -> int:
    """Collect everything in `folder`."""
    started = time.monotonic()
    for name in ("wheels", "tool", "extension", "harmful"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    with tempfile.TemporaryDirectory() as work:
        tool = _collect_tool(folder, Path(work), env)
        torch_version = _collect_extension(folder, Path(work), tool, env, options)
    write_harmful(folder / "harmful")
    manifest = {
        "schema": 1,
        "python": platform.python_version(),
        "torch": torch_version,
        "carries_torch": not options.no_torch,
        "extension": options.extension,
        "gpu": options.gpu,
        "files": {str(path.relative_to(folder)): hash_file(path) for path in sorted(folder.glob("*/*.whl"))},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
    print(f"{folder}: {len(manifest['files'])} wheels, {size:.0f} MiB, {time.monotonic() - started:.0f} s")
    return 0


def hash_file(path: Path) -> str:
    """sha256; a torch is too large to be read at once."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while True:
            block = stream.read(1 << 20)
            if not block:
                return digest.hexdigest()
            digest.update(block)


def _collect_tool(folder: Path, work: Path, env: Mapping[str, str]) -> Path:
    """safe-install, its dependencies and pip; an environment with them, for the build."""
    source = work / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(SOURCE / name, source)
    for name in ("src", "wheel_index"):
        shutil.copytree(SOURCE / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    pip = [sys.executable, "-m", "pip"]
    must([*pip, "wheel", "--quiet", "--wheel-dir", folder / "tool", source], env=env)
    must([*pip, "download", "--quiet", "--no-deps", "--dest", folder / "tool", "pip"], env=env)
    executable = make_venv(sys.executable, work / "tool", _one(folder / "tool", "pip-*.whl"), env)
    words = ["install", "--quiet", "--no-index", "--find-links", folder / "tool", "torch-safe-install"]
    must([executable, "-m", "pip", *words], env=env)
    return executable


def _collect_extension(
    folder: Path, work: Path, tool: Path, env: Mapping[str, str], options: argparse.Namespace
) -> str:
    """The extension, compiled by safe-install for torch and the GPU; the version of that torch."""
    wheels = folder / "wheels" if not options.no_torch else work / "wheels"
    requirements = [f"torch=={options.torch}", "numpy", "setuptools<81", "wheel"]
    if not (options.no_torch and options.extension_wheel):
        print(f"collecting torch {options.torch} and its libraries for Python {platform.python_version()}", flush=True)
        must([sys.executable, "-m", "pip", "download", "--quiet", "--dest", wheels, *requirements], env=env)
    if options.extension_wheel:
        shutil.copy(options.extension_wheel, folder / "extension")
        return str(options.torch)
    python = make_venv(sys.executable, work / "env", _one(folder / "tool", "pip-*.whl"), env)
    must([python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", wheels, *requirements], env=env)
    version = must([python, "-c", "import torch; print(torch.__version__)"], env=env).strip()
    print(f"compiling {options.extension} for torch {version} and GPU {options.gpu}", flush=True)
    hosts = ("https://data.pyg.org", "https://wheels.astral.sh", "https://pypi.nvidia.com")
    variables = {
        **env,
        "TORCH_CUDA_ARCH_LIST": options.gpu,
        "SAFE_INSTALL_CACHE_DIR": str(work / "cache"),
        # A published wheel may be for other GPUs: nobody listens at this address.
        "SAFE_INSTALL_MIRRORS": " ".join(f"{host}=http://127.0.0.1:9" for host in hosts),
    }
    command = [tool, "-m", "safe_install", "--python", python, "install", options.extension, "--json"]
    done = subprocess.run(
        [str(word) for word in command], env=variables, stdout=subprocess.PIPE, text=True, check=False
    )
    answer = json.loads(done.stdout)
    built = [step for step in answer["plan"]["steps"] if step["kind"] == "built"]
    if done.returncode != 0 or not built:
        raise StepFailed(f"{options.extension} was not built: {answer['error']}")
    shutil.copy(unquote(urlsplit(built[0]["url"]).path), folder / "extension")
    return version


def write_harmful(folder: Path) -> None:
    """A package that requires another torch, and that torch: it imports, and has no CUDA."""
    write_wheel(folder, HARMFUL, "1.0", {"older_torch_tools.py": ""}, requires=f"torch=={OTHER_TORCH}")
    cuda = "def is_available():\n    return False\n\n\ndef device_count():\n    return 0\n"
    files = {
        "torch/__init__.py": f"from torch import cuda, version\n__version__ = {OTHER_TORCH!r}\n",
        "torch/version.py": f"__version__ = {OTHER_TORCH!r}\ncuda = None\nhip = None\n",
        "torch/cuda/__init__.py": cuda,
    }
    write_wheel(folder, "torch", OTHER_TORCH, files)


def write_wheel(folder: Path, name: str, version: str, files: Mapping[str, str], requires: str = "") -> None:
    """A pure wheel with METADATA, WHEEL and RECORD."""
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    requirement = f"Requires-Dist: {requires}\n" if requires else ""
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirement}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: gpu_check\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text.encode())}\n")
    content[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"])
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise StepFailed(f"{folder} has no {pattern}")
    return found[-1]


# --- on the machine with the GPU --------------------------------------------------------------------


class Check:
    """The steps, in their order, and what they share."""

    def __init__(self, folder: Path, work: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.work = work
        self.deadline: float = time.monotonic() + options.limit
        self.use_python: Optional[Path] = Path(options.use_python) if options.use_python else None
        self.manifest: Dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        self.pip_env = clean_environment(PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1")
        self.python = Path()
        self.tool = Path()
        self.tree: Dict[str, object] = {}
        self.machine: Dict[str, Any] = {"kernel": " ".join(os.uname()[::2]), "cpus": os.cpu_count()}

    def left(self) -> float:
        """Seconds until the limit."""
        return max(1.0, self.deadline - time.monotonic())

    def ask(self, code: str) -> str:
        """What a fresh process of the environment prints."""
        return must([self.python, "-B", "-c", code], env=self.pip_env, limit=self.left()).strip()

    def safe_install(self, *words: object) -> Dict[str, Any]:
        """What the tool says; wheels come from the folder alone."""
        env = {
            **self.pip_env,
            "PIP_FIND_LINKS": f"{self.folder / 'harmful'} {self.folder / 'extension'}",
            "SAFE_INSTALL_CACHE_DIR": str(self.work / "cache"),
        }
        command = [self.tool, "-m", "safe_install", "--python", self.python, *words, "--json"]
        done = run(command, env=env, limit=self.left())
        try:
            document: Dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            last = done.stderr.strip().splitlines()[-4:]
            raise StepFailed(f"safe-install ended with {done.returncode}: {' / '.join(last)}") from None
        return document

    # --- steps

    def read_machine(self) -> str:
        """The driver and the GPU, as nvidia-smi names them."""
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"]
        if shutil.which("nvidia-smi") is None:
            raise StepFailed("nvidia-smi was not found: there is no NVIDIA driver here")
        text = must(query, env=self.pip_env, limit=30).strip()
        self.machine["nvidia_smi"] = text.splitlines()
        return text

    def make_tool(self) -> str:
        """safe-install in an environment of its own."""
        pip = _one(self.folder / "tool", "pip-*.whl")
        self.tool = make_venv(sys.executable, self.work / "tool", pip, self.pip_env, self.left())
        words = ["install", "--quiet", "--find-links", self.folder / "tool", "torch-safe-install"]
        must([self.tool, "-m", "pip", *words], env=self.pip_env, limit=self.left())
        return must([self.tool, "-m", "safe_install", "--version"], env=self.pip_env, limit=60).strip()

    def make_environment(self) -> str:
        """The environment with torch: the one that was named, or a new one."""
        wanted = self.manifest["python"].rsplit(".", 1)[0]
        if self.use_python is not None:
            self.python = self.use_python
        elif not self.manifest["carries_torch"]:
            raise StepFailed("the folder was made with --no-torch: name an interpreter with --use-python")
        here = must([self.use_python or sys.executable, "--version"], env=self.pip_env).split()[-1]
        if here.rsplit(".", 1)[0] != wanted:
            raise StepFailed(f"the folder was made for Python {wanted}, this is {here}")
        if self.use_python is None:
            pip = _one(self.folder / "tool", "pip-*.whl")
            self.python = make_venv(sys.executable, self.work / "env", pip, self.pip_env, self.left())
            words = ["install", "--quiet", "--find-links", self.folder / "wheels"]
            torch = f"torch=={self.manifest['torch'].partition('+')[0]}"
            must([self.python, "-m", "pip", *words, torch, "numpy"], env=self.pip_env, limit=self.left())
        return str(self.python)

    def ask_torch(self) -> str:
        """The torch that the extension was compiled for sees the GPU."""
        answer = json.loads(self.ask(ASK_TORCH))
        self.machine["torch"] = answer
        # What was asked for may leave the local version out: 2.14.1 for 2.14.1+cu130.
        if self.manifest["torch"] not in (answer["version"], answer["version"].partition("+")[0]):
            raise StepFailed(f"the folder was made for torch {self.manifest['torch']}, this is {answer['version']}")
        if not answer["available"]:
            raise StepFailed(f"torch {answer['version']}: is_available() is False")
        self.tree = read_tree(self.python)
        return json.dumps(answer)

    def compute(self) -> str:
        """torch computes on the GPU."""
        return self.ask(COMPUTE)

    def verify(self) -> str:
        """`verify --require-cuda` calls the environment healthy."""
        return expect(self.safe_install("verify", "--require-cuda"), 0, "healthy")

    def install(self) -> str:
        """The extension is installed."""
        wheel = _one(self.folder / "extension", "*.whl")
        document = self.safe_install("install", "--offline", "--no-deps", "--no-build", wheel)
        answer = expect(document, 0, "installed")
        if not document["after"]["cuda_available"]:
            raise StepFailed("installed, and CUDA is not available after it")
        return f"{wheel.name}: {answer}"

    def use(self) -> str:
        """The extension's kernels compute on the GPU what its code for the CPU computes."""
        return self.ask(OPERATIONS[self.manifest["extension"]])

    def refuse(self) -> str:
        """A package that requires another torch is refused, and nothing changes."""
        before = read_tree(self.python)
        answer = expect(self.safe_install("install", "--offline", HARMFUL), 11, "refused")
        return f"{answer}; {compare_trees(before, read_tree(self.python))}"

    def roll_back(self) -> str:
        """Where torch may change, the loss of CUDA is found and everything put back."""
        before = read_tree(self.python)
        document = self.safe_install("install", "--offline", "--allow-torch-change", HARMFUL)
        answer = expect(document, 12, "rolled-back")
        checks = [finding["check"] for finding in document["findings"] if finding["severity"] == "error"]
        same = compare_trees(before, read_tree(self.python))
        if not json.loads(self.ask(ASK_TORCH))["available"]:
            raise StepFailed("rolled back, and CUDA is not available after it")
        return f"{answer}; {', '.join(checks)}; {same}; CUDA is available"

    def undo(self) -> str:
        """The installation of the extension is taken back: the environment is as it was in the beginning."""
        answer = expect(self.safe_install("undo"), 0, "undone")
        return f"{answer}; {compare_trees(self.tree, read_tree(self.python))}"


def expect(document: Mapping[str, Any], status: int, outcome: str) -> str:
    """The exit status and outcome that were promised."""
    if (document["exit_code"], document["outcome"]) == (status, outcome):
        return f"exit status {status}, {outcome}"
    errors = [finding["detail"] for finding in document["findings"] if finding["severity"] == "error"]
    told = [document["error"]["message"]] if document["error"] else []
    seen = f"exit status {document['exit_code']}, {document['outcome']}, not {status}, {outcome}"
    raise StepFailed("; ".join([seen, *told, *errors])[:1500])


def read_tree(python: Path) -> Dict[str, object]:
    """Every file below the environment, by size, mode and time; bytecode and our own folder aside."""
    root = python.parent.parent
    rows: Dict[str, object] = {}
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in ("__pycache__", ".safe-install")]
        for name in files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            rows[os.path.relpath(path, root)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return rows


def compare_trees(before: Mapping[str, object], after: Mapping[str, object]) -> str:
    """StepFailed where they differ."""
    changed = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    if changed:
        raise StepFailed(f"{len(changed)} files differ from before: {', '.join(changed[:5])}")
    return f"all {len(before)} files as before"


# The step, its name, and the steps without which it means nothing.
STEPS: Sequence[Any] = (
    ("gpu", Check.read_machine, ()),
    ("tool", Check.make_tool, ()),
    ("environment", Check.make_environment, ()),
    ("torch sees the GPU", Check.ask_torch, ("environment",)),
    ("torch computes on the GPU", Check.compute, ("torch sees the GPU",)),
    ("verify before", Check.verify, ("tool", "torch sees the GPU")),
    ("install the extension", Check.install, ("tool", "torch sees the GPU")),
    ("the extension computes on the GPU", Check.use, ("install the extension",)),
    ("verify after", Check.verify, ("install the extension",)),
    ("a harmful install is refused", Check.refuse, ("tool", "torch sees the GPU")),
    ("a harmful install is rolled back", Check.roll_back, ("tool", "torch sees the GPU")),
    ("undo", Check.undo, ("install the extension",)),
)


def check(folder: Path, options: argparse.Namespace) -> int:
    """Run every step; write the result; 0 when all passed."""
    started = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="gpu_check-"))
    results: List[Dict[str, Any]] = []
    try:
        steps = Check(folder, work, options)
        for name, action, needs in STEPS:
            result = run_step(name, action, needs, steps, results)
            results.append(result)
            print(f"{result['status']:>8}  {name} ({result['seconds']} s): {in_one_line(result['detail'])}", flush=True)
    finally:
        if options.keep:
            print(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    passed = all(result["status"] == "passed" for result in results)
    answer = {
        "schema": 1,
        "passed": passed,
        "seconds": round(time.monotonic() - started, 1),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": steps.machine,
        "prepared": {name: value for name, value in steps.manifest.items() if name != "files"},
        "steps": results,
    }
    target = Path(options.result) if options.result else Path("gpu_check.json")
    target.write_text(json.dumps(answer, indent=1) + "\n")
    count = sum(result["status"] == "passed" for result in results)
    print(f"{'passed' if passed else 'FAILED'}: {count} of {len(results)} steps, {answer['seconds']} s; {target}")
    return 0 if passed else 1


def in_one_line(text: str) -> str:
    """For the screen; the JSON has all of it."""
    line = " / ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if len(line) <= 200 else line[:197] + "..."


def run_step(
    name: str, action: Callable[[Check], str], needs: Sequence[str], steps: Check, results: Sequence[Mapping[str, Any]]
) -> Dict[str, Any]:
    """One step's answer: passed, failed, or not run with the reason."""
    started = time.monotonic()
    missing = [result["name"] for result in results if result["name"] in needs and result["status"] != "passed"]
    if missing:
        status, detail = "not run", f"needs: {', '.join(missing)}"
    elif time.monotonic() > steps.deadline:
        status, detail = "not run", "the time is over"
    else:
        try:
            status, detail = "passed", action(steps)
        except StepFailed as problem:
            status, detail = "failed", str(problem)
        except (OSError, LookupError, TypeError, ValueError) as problem:
            # A file that is missing, an answer of another shape: the other steps still have something to say.
            status, detail = "failed", f"{type(problem).__name__}: {problem}"
    return {"name": name, "status": status, "seconds": round(time.monotonic() - started, 1), "detail": detail}


def main(argv: Sequence[str]) -> int:
    """0 all passed, 1 not, 2 usage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prepare", action="store_true", help="collect the wheels in FOLDER; the rest is for later")
    parser.add_argument("--torch", default="2.14.1", help="--prepare: torch's version on the package index")
    parser.add_argument("--gpu", default="9.0+PTX", help="--prepare: the GPU architectures to compile for")
    parser.add_argument("--extension", default="torch-scatter", choices=sorted(OPERATIONS), help="--prepare")
    parser.add_argument("--extension-wheel", metavar="FILE", help="--prepare: compile nothing, take this wheel")
    parser.add_argument("--no-torch", action="store_true", help="--prepare: the machine has that torch already")
    parser.add_argument("--use-python", metavar="PATH", help="an interpreter that has the CUDA torch")
    parser.add_argument("--result", metavar="FILE", help="where the JSON goes (gpu_check.json)")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for all steps together")
    parser.add_argument("--keep", action="store_true", help="leave the environments")
    options = parser.parse_args(argv)
    folder = options.folder.resolve()
    if not options.prepare and not (folder / "manifest.json").is_file():
        parser.error(f"{folder} has no manifest.json: make it with --prepare")
    try:
        return prepare(folder, options) if options.prepare else check(folder, options)
    except StepFailed as problem:
        print(f"gpu_check: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
