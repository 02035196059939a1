"""Environment markers (PEP 508): the one place where they are evaluated."""

from __future__ import annotations

from typing import Iterable, Mapping

from packaging.requirements import Requirement


def applies(requirement: Requirement, markers: Mapping[str, str], extras: Iterable[str] = ()) -> bool:
    """Is the requirement's marker true?

    `markers`: the values of an interpreter (`Interpreter.markers`). `extras`: those that were asked for; what needs no
    extra applies without one, too. Errors: packaging's, for a marker that compares what cannot be compared.
    """
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({**markers, "extra": extra}) for extra in (*extras, ""))
