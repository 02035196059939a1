"""What pip planned beside a torch that comes is taken, unless something that is known speaks
against it."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.utils import canonicalize_name

from safe_install.index.catalog import bundled_catalog, load_project
from safe_install.models import Action, BuiltFor, Origin, Step
from safe_install.resolve.companions import (
    check_planned,
    installed_candidate,
    pip_may_choose,
    says_its_torch,
)
from tests.factories import environment_for, make_distribution

PLATFORM = "manylinux_2_36_x86_64"
# the build on PyPI
CU130 = environment_for(torch="2.14.1", python_version="3.11", platform=PLATFORM)
CPU = environment_for(torch="2.13.0+cpu", python_version="3.11", platform=PLATFORM)
# the index does not know it
NEWER = environment_for(torch="9.9.0", python_version="3.11", platform=PLATFORM)
PYPI = "https://files.pythonhosted.org/packages/00/00/{}"
PYTORCH = "https://download.pytorch.org/whl/{}"


def planned(
    name,
    version,
    *,
    tags="cp311-cp311-manylinux_2_28_x86_64",
    place=PYPI,
    origin=Origin.WHEEL,
    requires=(),
):
    end = f"-{tags}.whl" if origin is Origin.WHEEL else ".tar.gz"
    url = place.format(f"{name.replace('-', '_')}-{version.replace('+', '%2B')}{end}")
    return Step(
        Action.ADD,
        canonicalize_name(name),
        version,
        url=url,
        origin=origin,
        requires=tuple(requires),
    )


@pytest.mark.parametrize(
    ("step", "environment", "rule"),
    [
        (planned("triton", "3.8.0"), CU130, None),
        (planned("triton", "3.7.0"), CU130, "torch-version"),
        (planned("torchvision", "0.29.1", requires=["torch>=2.14.0"]), CU130, None),
        (planned("torchvision", "0.28.0", requires=["torch==2.13.0"]), CU130, "torch-version"),
        (planned("torchvision", "0.28.0+cpu", place=PYTORCH), CPU, None),
        (planned("torchvision", "0.28.0+cu130", place=PYTORCH), CPU, "accelerator"),
        # The one on PyPI is built for CUDA, as the torch there is.
        (planned("torchvision", "0.28.0", requires=["torch==2.13.0"]), CPU, "accelerator"),
        # Newer than the index: its own metadata says the torch, and the package index has both for
        # one accelerator.
        (planned("torchvision", "9.9.0", requires=["torch==2.14.1"]), CU130, None),
        (planned("torchvision", "9.9.0", requires=["torch==2.13.0"]), CU130, "torch-version"),
        (planned("torchvision", "9.9.0", requires=["torch==9.9.0"]), NEWER, None),
        (planned("torchcodec", "9.9.0"), CU130, None),
        # Only what was built for this torch would fit.
        (planned("torch-scatter", "2.1.2", origin=Origin.SDIST), CU130, "torch-version"),
        (planned("torchdata", "0.11.0", origin=Origin.SDIST), CU130, None),
        (planned("torchdata", "0.11.0", tags="py3-none-any"), CU130, None),
        (planned("cupy-cuda12x", "13.0.0"), CU130, "accelerator"),
        # Names that say nothing: pip's own choice is taken.
        (planned("torchvision", "0.28.0", tags="odd"), CU130, None),
        (planned("torch-scatter", "unknown", origin=Origin.SDIST), CU130, None),
    ],
)
def test_what_pip_planned(step, environment, rule):
    rejection = check_planned(step, environment, bundled_catalog())
    assert (rejection.rule.value if rejection else None) == rule, rejection


def test_without_a_torch_there_is_nothing_to_fit():
    assert (
        check_planned(
            planned("triton", "3.7.0"), dataclasses.replace(CU130, torch=None), bundled_catalog()
        )
        is None
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torchvision", True),
        ("triton", True),
        ("xformers", True),
        ("torch-scatter", False),
        ("flash-attn", False),
    ],
)
def test_what_pip_resolves_by_itself(name, expected):
    assert pip_may_choose(load_project(name)) is expected


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("torchvision", "0.28.0", True),
        ("torch-scatter", "2.1.2+pt213cpu", True),
        ("torch-scatter", "2.1.2", False),  # built here, or by pip
        ("torchdata", "0.11.0", True),
        ("torch-scatter", "no version", False),
    ],
)
def test_what_says_its_torch(name, version, expected):
    assert says_its_torch(make_distribution(name, version), load_project(name)) is expected


@pytest.mark.parametrize(
    ("version", "torch", "built_for"),
    [
        ("2.1.2+pt213cpu", CU130.torch, BuiltFor("2.13", "cpu", True)),
        ("2.1.2", CU130.torch, BuiltFor("2.14.1+cu130", "cu130", True)),
        ("2.1.2+pt213cpu", None, BuiltFor("2.13", "cpu")),
        ("2.1.2", None, BuiltFor()),
        ("unknown", CU130.torch, None),
    ],
)
def test_what_an_installed_one_was_built_for(version, torch, built_for):
    distribution = make_distribution("torch-scatter", version)
    found = installed_candidate(distribution, load_project("torch-scatter"), torch)
    assert (found and found.built_for) == built_for
