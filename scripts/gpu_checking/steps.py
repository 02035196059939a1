"""On the machine with the GPU: the steps."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

from gpu_checking.harmful import HARMFUL
from gpu_checking.processes import StepFailed, clean_environment, find_file, make_venv, must, run

# What the extension's own kernels compute on the GPU is compared with what its code for the CPU
# computes.
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
            raise StepFailed(
                f"safe-install ended with {done.returncode}: {' / '.join(last)}"
            ) from None
        return document

    # --- steps

    def read_machine(self) -> str:
        """The driver and the GPU, as nvidia-smi names them."""
        query = [
            "nvidia-smi",
            "--query-gpu=name,driver_version,memory.total,compute_cap",
            "--format=csv,noheader",
        ]
        if shutil.which("nvidia-smi") is None:
            raise StepFailed("nvidia-smi was not found: there is no NVIDIA driver here")
        text = must(query, env=self.pip_env, limit=30).strip()
        self.machine["nvidia_smi"] = text.splitlines()
        return text

    def make_tool(self) -> str:
        """safe-install in an environment of its own."""
        pip = find_file(self.folder / "tool", "pip-*.whl")
        self.tool = make_venv(sys.executable, self.work / "tool", pip, self.pip_env, self.left())
        words = ["install", "--quiet", "--find-links", self.folder / "tool", "torch-safe-install"]
        must([self.tool, "-m", "pip", *words], env=self.pip_env, limit=self.left())
        return must(
            [self.tool, "-m", "safe_install", "--version"], env=self.pip_env, limit=60
        ).strip()

    def make_environment(self) -> str:
        """The environment with torch: the one that was named, or a new one."""
        wanted = self.manifest["python"].rsplit(".", 1)[0]
        if self.use_python is not None:
            self.python = self.use_python
        elif not self.manifest["carries_torch"]:
            raise StepFailed(
                "the folder was made with --no-torch: name an interpreter with --use-python"
            )
        here = must([self.use_python or sys.executable, "--version"], env=self.pip_env).split()[-1]
        if here.rsplit(".", 1)[0] != wanted:
            raise StepFailed(f"the folder was made for Python {wanted}, this is {here}")
        if self.use_python is None:
            pip = find_file(self.folder / "tool", "pip-*.whl")
            self.python = make_venv(
                sys.executable, self.work / "env", pip, self.pip_env, self.left()
            )
            words = ["install", "--quiet", "--find-links", self.folder / "wheels"]
            torch = f"torch=={self.manifest['torch'].partition('+')[0]}"
            must(
                [self.python, "-m", "pip", *words, torch, "numpy"],
                env=self.pip_env,
                limit=self.left(),
            )
        return str(self.python)

    def ask_torch(self) -> str:
        """The torch that the extension was compiled for sees the GPU."""
        answer = json.loads(self.ask(ASK_TORCH))
        self.machine["torch"] = answer
        # What was asked for may leave the local version out: 2.14.1 for 2.14.1+cu130.
        if self.manifest["torch"] not in (answer["version"], answer["version"].partition("+")[0]):
            raise StepFailed(
                f"the folder was made for torch {self.manifest['torch']}, this is "
                f"{answer['version']}"
            )
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
        wheel = find_file(self.folder / "extension", "*.whl")
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
        checks = [
            finding["check"] for finding in document["findings"] if finding["severity"] == "error"
        ]
        same = compare_trees(before, read_tree(self.python))
        if not json.loads(self.ask(ASK_TORCH))["available"]:
            raise StepFailed("rolled back, and CUDA is not available after it")
        return f"{answer}; {', '.join(checks)}; {same}; CUDA is available"

    def undo(self) -> str:
        """The installation of the extension is taken back: the environment is as it was in the
        beginning."""
        answer = expect(self.safe_install("undo"), 0, "undone")
        return f"{answer}; {compare_trees(self.tree, read_tree(self.python))}"


def expect(document: Mapping[str, Any], status: int, outcome: str) -> str:
    """The exit status and outcome that were promised."""
    if (document["exit_code"], document["outcome"]) == (status, outcome):
        return f"exit status {status}, {outcome}"
    errors = [
        finding["detail"] for finding in document["findings"] if finding["severity"] == "error"
    ]
    told = [document["error"]["message"]] if document["error"] else []
    seen = f"exit status {document['exit_code']}, {document['outcome']}, not {status}, {outcome}"
    raise StepFailed("; ".join([seen, *told, *errors])[:1500])


def read_tree(python: Path) -> Dict[str, object]:
    """Every file below the environment, by size, mode and time; bytecode and our own folder
    aside."""
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
