"""A real torch, a real GPU, a real CUDA extension: installed, used, defended and taken back.
Standard library only.

Two steps, because a machine with a GPU often has no network and no compiler:

    scripts/gpu_check --prepare FOLDER [--torch 2.14.1] [--gpu 9.0+PTX] [--extension torch-scatter]
    [--no-torch] scripts/gpu_check FOLDER [--use-python PATH] [--result FILE]

The first collects wheels for the Python that runs it: torch with its NVIDIA libraries, an extension
that is compiled here for this torch and that GPU, safe-install with its dependencies, pip, and a
package that would replace torch.
The second needs that folder and this script's. It exits with 0 only when every step passed; a step
that could not run is reported as not run, and is no success. With --use-python the environment of
that interpreter, which has a CUDA torch already (the same version as in --prepare), is changed and
put back; else one is made and thrown away.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence

from gpu_checking.preparation import prepare
from gpu_checking.processes import StepFailed
from gpu_checking.steps import OPERATIONS, STEPS, Check

LIMIT = 6 * 60  # seconds for everything on the machine with the GPU


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
            print(
                f"{result['status']:>8}  {name} ({result['seconds']} s): "
                f"{in_one_line(result['detail'])}",
                flush=True,
            )
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
    print(
        f"{'passed' if passed else 'FAILED'}: {count} of {len(results)} steps, {answer['seconds']} "
        f"s; {target}"
    )
    return 0 if passed else 1


def in_one_line(text: str) -> str:
    """For the screen; the JSON has all of it."""
    line = " / ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if len(line) <= 200 else line[:197] + "..."


def run_step(
    name: str,
    action: Callable[[Check], str],
    needs: Sequence[str],
    steps: Check,
    results: Sequence[Mapping[str, Any]],
) -> Dict[str, Any]:
    """One step's answer: passed, failed, or not run with the reason."""
    started = time.monotonic()
    missing = [
        result["name"]
        for result in results
        if result["name"] in needs and result["status"] != "passed"
    ]
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
            # A file that is missing, an answer of another shape: the other steps still have
            # something to say.
            status, detail = "failed", f"{type(problem).__name__}: {problem}"
    return {
        "name": name,
        "status": status,
        "seconds": round(time.monotonic() - started, 1),
        "detail": detail,
    }


def main(argv: Sequence[str]) -> int:
    """0 all passed, 1 not, 2 usage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--prepare", action="store_true", help="collect the wheels in FOLDER; the rest is for later"
    )
    parser.add_argument(
        "--torch", default="2.14.1", help="--prepare: torch's version on the package index"
    )
    parser.add_argument(
        "--gpu", default="9.0+PTX", help="--prepare: the GPU architectures to compile for"
    )
    parser.add_argument(
        "--extension", default="torch-scatter", choices=sorted(OPERATIONS), help="--prepare"
    )
    parser.add_argument(
        "--extension-wheel", metavar="FILE", help="--prepare: compile nothing, take this wheel"
    )
    parser.add_argument(
        "--no-torch", action="store_true", help="--prepare: the machine has that torch already"
    )
    parser.add_argument(
        "--use-python", metavar="PATH", help="an interpreter that has the CUDA torch"
    )
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
