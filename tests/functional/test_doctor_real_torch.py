"""`safe-install doctor` in environments with the real torch 2.13.0+cpu that are really broken, and its
report beside torch's own collect_env. One environment of hard links, put back before each test; what
does not keep torch from importing is broken at once."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.functional.conftest import Environment, clean_variables, run_process
from tests.functional.doctor_lab import checks_with_errors, run_doctor, start_own_python
from tests.functional.test_doctor import assert_mended, assert_named
from tests.functional.test_doctor_healthy import assert_healthy
from tests.functional.test_founding_story import reach
from tests.lab.breakage import Lab, real_torch
from tests.lab.breakage.real_torch import ALONE, TOGETHER
from tests.lab.wheels import write_wheel
from tests.unit.wheels.crafted import make_sdist
from tests.wheelhost import WheelHost

pytestmark = [pytest.mark.slow, pytest.mark.torch]


@pytest.fixture
def lab(environment: Path, tmp_path: Path) -> Lab:
    """The environment, active in the shell."""
    for name in ("home", "index"):
        (tmp_path / name).mkdir()
    variables = clean_variables({}, tmp_path / "index", tmp_path / "home")
    variables["PATH"] = f"{environment}/bin:{variables['PATH']}"
    made = Environment(environment, variables)
    start_own_python(made)
    nowhere = tmp_path / "nowhere"
    return Lab(made, tmp_path, nowhere, nowhere, nowhere)


@pytest.mark.long
@pytest.mark.parametrize("recipe", ALONE, ids=lambda recipe: recipe.name)
def test_the_cause_is_named_and_nothing_else(recipe, lab):
    recipe.breaks(lab)
    document = run_doctor(lab)
    assert_named(document, recipe)
    if recipe.mends:
        (finding,) = [one for one in document["findings"] if one["severity"] == "error"][:1]
        assert_mended(lab, recipe, finding["hint"])


@pytest.mark.long
def test_several_causes_are_named_and_nothing_else(lab):
    for recipe in TOGETHER:
        recipe.breaks(lab)
    assert_named(run_doctor(lab), *TOGETHER)


@pytest.mark.long
def test_what_torch_requires_is_brought_back_in_its_version(lab, tmp_path):
    version = lab.info("typing_extensions").name.split("-")[1].replace(".dist", "")
    contents = {"typing_extensions.py": (lab.site / "typing_extensions.py").read_bytes()}
    write_wheel(tmp_path / "index", "typing_extensions", version, contents)
    real_torch.typing_extensions_of_long_ago(lab)
    document = run_doctor(lab, "--fix")
    assert checks_with_errors(document) == [], document["findings"]
    assert len(document["details"]["undo"]) == 1


# --- an extension that is built again ------------------------------------------------------------

PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
SCATTER = """\
import os, torch
torch.ops.load_library(os.path.join(os.path.dirname(__file__), "_version_cpu.so"))

def scatter(source, index, dim=-1, out=None, dim_size=None, reduce="sum"):
    made = torch.zeros(int(index.max()) + 1, dtype=source.dtype, device=source.device)
    return made.index_add(0, index, source)
"""
CODE = """\
#include <c10/core/DeviceType.h>
extern "C" unsigned long length() { return c10::DeviceTypeName(c10::DeviceType::CPU).size(); }
"""
BACKEND = """\
import base64, hashlib, os, pathlib, subprocess, sysconfig, zipfile
import torch

def row(path, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return "%s,sha256=%s,%d\\n" % (path, digest, len(data))

def build_wheel(directory, config_settings=None, metadata_directory=None):
    info, tag = "torch_scatter-2.1.3.dist-info", "py3-none-" + sysconfig.get_platform().replace("-", "_")
    made = os.path.join(os.environ["TMPDIR"], "_version_cpu.so")
    torch_dir = os.path.dirname(torch.__file__)
    includes = ["-I" + os.path.join(torch_dir, "include")]
    libraries = os.path.join(torch_dir, "lib")
    command = ["c++", "-std=c++20", "-O0", "-shared", "-fPIC", *includes, "version.cpp", "-o", made]
    subprocess.run([*command, "-L" + libraries, "-Wl,--no-as-needed", "-lc10"], check=True)
    files = {
        "torch_scatter/__init__.py": pathlib.Path("torch_scatter.py").read_bytes(),
        "torch_scatter/_version_cpu.so": pathlib.Path(made).read_bytes(),
        info + "/METADATA": b"Metadata-Version: 2.1\\nName: torch-scatter\\nVersion: 2.1.3\\n",
        info + "/WHEEL": ("Wheel-Version: 1.0\\nRoot-Is-Purelib: false\\nTag: %s\\n" % tag).encode(),
    }
    record = "".join(row(path, data) for path, data in files.items())
    name = "torch_scatter-2.1.3-%s.whl" % tag
    with zipfile.ZipFile(os.path.join(directory, name), "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
        archive.writestr(info + "/RECORD", record + info + "/RECORD,,\\n")
    return name
"""


@pytest.mark.long
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_an_extension_that_has_no_wheel_is_built_for_this_torch(lab, tmp_path):
    files = {"pyproject.toml": PROJECT, "backend.py": BACKEND, "torch_scatter.py": SCATTER}
    sdist = make_sdist(tmp_path, {**files, "version.cpp": CODE}, name="torch_scatter-2.1.3")
    for name, version in (("setuptools", "80.9.0"), ("wheel", "0.45"), ("ninja", "1.13")):
        write_wheel(tmp_path / "index", name, version, {f"{name}/__init__.py": ""})
    real_torch.an_extension_of_another_torch(lab)
    with WheelHost() as host:
        lab.variables.update(reach(host))
        host.add_pypi_page("torch-scatter", {sdist.name: sdist.read_bytes()})
        document = run_doctor(lab, "--fix")
    assert checks_with_errors(document) == [], document["findings"]
    assert document["outcome"] == "healthy"
    assert lab.info("torch_scatter").name == "torch_scatter-2.1.3.dist-info"
    assert len(document["details"]["undo"]) == 1


# --- the report, beside torch's own ---------------------------------------------------------------

# With a compiler of CUDA on PATH collect_env "could not collect" what a build without CUDA has.
SAID_BETTER = "CUDA used to build PyTorch"


def test_a_healthy_one_and_its_report_with_the_values_of_collect_env(lab):
    python = str(lab.environment.executable)
    theirs = run_process([python, "-m", "torch.utils.collect_env"], lab.variables, cwd=lab.folder)
    document = run_doctor(lab, "--report")
    assert_healthy(document)
    names = field_names(lab.torch / "utils" / "collect_env.py")
    expected = read_fields(theirs.stdout, names)
    found = read_fields(document["details"]["report"], names)
    printed = [name for name in names if name in found]
    assert list(found) == printed, "in its order"
    assert len(printed) >= 20
    if expected[SAID_BETTER] == "Could not collect":
        assert found.pop(SAID_BETTER) == "None"
    libraries = "Versions of relevant libraries"
    listed = found.pop(libraries).split("\n")
    assert set(expected[libraries].split("\n")) <= set(listed)
    assert found == {name: expected[name] for name in found}


def field_names(path: Path) -> List[str]:
    """In the order of its format."""
    spec = importlib.util.spec_from_file_location("collect_env", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return re.findall(r"(?m)^([^:\n{]+):", module.env_info_fmt)


def read_fields(text: str, names: List[str]) -> Dict[str, str]:
    """What stands behind each name, up to the next one or to an empty line."""
    found: Dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        first, colon, rest = line.partition(":")
        if colon and first in names and first not in found:
            name = first
            found[name] = rest.strip()
        elif not line.strip():
            name = ""
        elif name:
            found[name] = f"{found[name]}\n{line}".strip()
    return found
