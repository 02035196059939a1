"""The four facts to look at first where CUDA is not available: torch's CUDA, the driver, PATH and
LD_LIBRARY_PATH. Pure."""

from __future__ import annotations

from typing import List, Optional, Tuple

from safe_install.diagnosis.facts import Facts
from safe_install.models import Driver, TorchBuild


def answer_questions(facts: Facts) -> Tuple[Tuple[str, str], ...]:
    """Each question with its answer in one line."""
    environment = facts.environment
    torch = environment.torch if environment is not None else None
    driver = environment.driver if environment is not None else None
    return (
        ("torch.version.cuda", _cuda_of_torch(facts, torch)),
        ("driver", _driver(driver, torch)),
        ("PATH", _path(facts)),
        ("LD_LIBRARY_PATH", _library_path(facts)),
    )


def _cuda_of_torch(facts: Facts, torch: Optional[TorchBuild]) -> str:
    if facts.environment is None:
        return "not known: the interpreter does not answer"
    if torch is None:
        return "there is no torch"
    return f"{torch.cuda or 'None'} (torch {torch.runtime_version})"


def _driver(driver: Optional[Driver], torch: Optional[TorchBuild]) -> str:
    if driver is None:
        return "none here"
    if driver.problem:
        return driver.problem
    served = f"serves CUDA {driver.cuda}" if driver.cuda else "which CUDA it serves is not known"
    wanted = f", torch wants {torch.cuda}" if torch is not None and torch.cuda else ""
    count = len(driver.devices)
    devices = f", {count} GPU{'' if count == 1 else 's'}"
    return f"{driver.version or 'of an unknown version'} ({served}{wanted}){devices}"


def _path(facts: Facts) -> str:
    found: List[str] = []
    for program in facts.programs:
        if program.name in ("python", "pip", "nvcc"):
            found.append(f"{program.name}: {program.path}")
    return ", ".join(found) or "neither python nor pip nor nvcc is on it"


def _library_path(facts: Facts) -> str:
    value = facts.variables.get("LD_LIBRARY_PATH")
    if not value:
        return "not set"
    if not facts.shadowing:
        return f"{value} (hides none of torch's libraries)"
    return f"{value} (hides {', '.join(library.name for library in facts.shadowing[:3])})"
