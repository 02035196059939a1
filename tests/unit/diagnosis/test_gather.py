"""What is gathered becomes findings: which requirement is why torch does not import?"""

from __future__ import annotations

import pytest

from safe_install.diagnosis.gather import _unmet_findings
from safe_install.models import Severity, UnmetRequirement
from tests.factories import make_health

MISSING = "ModuleNotFoundError: No module named 'typing_extensions'"
TOO_OLD = "ImportError: cannot import name 'TypeIs' from 'typing_extensions' (/env/site/typing_extensions.py)"


@pytest.mark.parametrize(
    ("name", "present", "error", "severity"),
    [
        ("torch", "", MISSING, Severity.ERROR),
        ("torch", "", None, Severity.WARNING),
        ("torch", "", "ImportError: libc10.so: cannot open shared object file", Severity.WARNING),
        ("torch", "typing-extensions 4.0.0", TOO_OLD, Severity.ERROR),
        ("torch", "typing-extensions 4.0.0", None, Severity.WARNING),
        ("torch", "typing-extensions 4.0.0", "ImportError: no 'sympy'", Severity.WARNING),
        ("alpha", "typing-extensions 4.0.0", TOO_OLD, Severity.WARNING),
    ],
)
def test_a_requirement_is_an_error_where_torch_fails_for_it(name, present, error, severity):
    unmet = UnmetRequirement(name, "1.0", "typing-extensions>=4.10", present)
    (one,) = _unmet_findings([unmet], make_health(imports={"torch": error}))
    assert one.severity is severity
    assert one.hint == "safe-install install 'typing-extensions>=4.10'"
