"""`safe-install doctor` says nothing of environments in which nothing is wrong."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.functional.conftest import Environment
from tests.functional.doctor_lab import checks_with_errors, run_doctor
from tests.functional.doctor_lab import make_lab as make_lab
from tests.lab.breakage import files
from tests.lab.breakage.outside import (
    forbid,
    move_to_plain_python,
    move_torch,
    without_privileges,
)
from tests.lab.breakage.recipe import CPU, CUDA, OLD


def assert_healthy(document):
    # Room, and an nvcc on PATH, are of the machine of the tests.
    of_machine = ("disk-space", "toolkit-of-another-cuda")
    found = [one for one in document["findings"] if one["check"] not in of_machine]
    assert found == []
    unsaid = [row for row in document["details"]["checks"] if row["status"] == "cannot-tell"]
    assert unsaid == []
    assert document["outcome"] == "healthy"


def test_torch_without_CUDA(make_lab):
    assert_healthy(run_doctor(make_lab()))


def test_torch_with_CUDA_and_its_libraries(make_lab):
    assert_healthy(run_doctor(make_lab(CUDA)))


@pytest.mark.parametrize("python", [pytest.param("3.8", marks=pytest.mark.long), "3.11"])
def test_an_old_torch_with_numpy(make_lab, python):
    assert_healthy(run_doctor(make_lab((*OLD, "numpy==1.26.4"), python=python)))


def test_no_torch(make_lab):
    document = run_doctor(make_lab(()))
    assert_healthy(document)
    skipped = {one["name"]: one["because"] for one in document["details"]["checks"]}
    assert skipped["torch-installed"] == "there is no torch, and nothing here requires one"
    assert skipped["torch-import"] == "torch-installed was skipped"


def test_a_working_folder_that_was_removed(make_lab):
    lab = make_lab()
    (lab.folder / "gone").mkdir()
    lab.prefix_words += ["sh", "-c", 'cd gone && rmdir ../gone && exec "$0" "$@"']
    assert_healthy(run_doctor(lab))


def test_a_home_of_somebody_else(make_lab):
    """As `docker run --user` leaves it: the caches below it may not even be looked for."""
    lab = make_lab()
    lab.prefix_words += without_privileges()
    home = lab.folder / "of somebody"
    home.mkdir()
    forbid(home, 0o700)
    lab.variables["HOME"] = str(home)
    for name in ("XDG_CACHE_HOME", "SAFE_INSTALL_CACHE_DIR"):
        lab.variables.pop(name, None)
    assert checks_with_errors(run_doctor(lab)) == []


@pytest.mark.long
def test_torch_in_the_user_site(make_lab):
    lab = make_lab()
    move_to_plain_python(lab)
    lab.variables["PYTHONUSERBASE"] = str(lab.folder / "user")
    version = lab.site.parent.name
    move_torch(lab.site, lab.folder / "user" / "lib" / version / "site-packages")
    assert_healthy(run_doctor(lab))


def test_a_virtual_environment_without_pip(make_lab):
    lab = make_lab()
    subprocess.run(
        [str(lab.environment.executable), "-m", "pip", "uninstall", "-qy", "pip", "setuptools"],
        check=True,
    )
    assert_healthy(run_doctor(lab))


@pytest.mark.long
def test_a_virtual_environment_that_sees_the_packages_of_its_Python(make_lab):
    lab = make_lab()
    move_to_plain_python(lab)
    command = [str(lab.environment.executable), "-m", "venv", "--without-pip"]
    subprocess.run([*command, "--system-site-packages", str(lab.folder / "upper")], check=True)
    lab.environment = Environment(lab.folder / "upper", lab.variables)
    lab.variables["PATH"] = f"{lab.folder}/upper/bin:{lab.variables['PATH']}"
    assert_healthy(run_doctor(lab))


@pytest.mark.long
def test_an_environment_of_conda(make_lab):
    lab = make_lab()
    move_to_plain_python(lab)
    folder = lab.environment.prefix / "conda-meta"
    folder.mkdir()
    (folder / "history").write_text("")
    for name, version in (("pytorch", "2.13.0"), ("mkl", "2025.0.0")):
        value = {"name": name, "version": version, "build": "0", "files": []}
        (folder / f"{name}-{version}-0.json").write_text(json.dumps(value))
    (lab.info("torch") / "INSTALLER").write_text("conda\n")
    (lab.info("torch") / "RECORD").unlink()
    assert_healthy(run_doctor(lab))


def test_a_pth_file_that_names_a_folder_that_is_gone(make_lab):
    """Of a torch that was once built here: Python passes over it."""
    lab = make_lab()
    (lab.site / "torch.pth").write_text(f"{lab.folder}/gone/pytorch\n")
    assert_healthy(run_doctor(lab))


@pytest.mark.long
def test_a_library_to_be_loaded_first_that_is_gone(make_lab):
    """The loader says so at each start, and goes on."""
    lab = make_lab()
    lab.variables["LD_PRELOAD"] = "/opt/gone/libjemalloc.so"
    assert_healthy(run_doctor(lab))


def test_an_editable_package(make_lab):
    lab = make_lab()
    files.the_folder_of_an_editable_package_is_gone(lab)
    (lab.folder / "source" / "alpha").mkdir(parents=True)
    assert_healthy(run_doctor(lab))


@pytest.mark.long
def test_a_package_of_the_operating_system(make_lab):
    lab = make_lab()
    files.write(lab, "alpha", "1.0")
    (lab.info("alpha") / "INSTALLER").write_text("debian\n")
    (lab.info("alpha") / "RECORD").unlink()
    assert_healthy(run_doctor(lab))


@pytest.mark.long
def test_a_folder_with_spaces_and_letters_of_other_languages(make_lab):
    assert_healthy(run_doctor(make_lab(CPU, name="mein Ordner äöü")))


def test_a_program_that_runs_with_the_torch_that_is_there(make_lab):
    lab = make_lab()
    code = "import torch, sys; print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [str(lab.environment.executable), "-B", "-c", code],
        env=lab.variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        assert_healthy(run_doctor(lab))
        program.communicate()


def test_quick_says_nothing_either_and_asks_no_import(make_lab):
    document = run_doctor(make_lab(CUDA), "--quick")
    assert_healthy(document)
    skipped = [row["name"] for row in document["details"]["checks"] if row["status"] == "skipped"]
    assert "torch-import" in skipped


def test_a_Python_that_speaks_at_every_start(make_lab):
    lab = make_lab()
    code = "import sys; sys.stdout.write('{\"result\": 1}\\n'); sys.stderr.write('Error\\n')\n"
    (lab.site / "speaking.pth").write_text(code)
    assert_healthy(run_doctor(lab))


def test_a_project_with_modules_of_its_own(make_lab):
    lab = make_lab()
    for name in ("test", "tests", "utils"):
        (lab.folder / name).mkdir()
        (lab.folder / name / "__init__.py").write_text("")
    (lab.folder / "statistics.py").write_text("raise SystemExit('nobody imports this')\n")
    assert_healthy(run_doctor(lab))


# --- links -----------------------------------------------------------------------------------------


def move_and_link(path: Path, target: Path) -> None:
    path.rename(target)
    path.symlink_to(target)


def test_packages_that_lie_elsewhere(make_lab):
    """site-packages is a link to a larger disk; RECORDs lead out of it: ../../../bin/pip."""
    lab = make_lab()
    move_and_link(lab.site, lab.folder / "large")
    assert_healthy(run_doctor(lab))


def test_a_torch_that_lies_elsewhere(make_lab):
    lab = make_lab()
    move_and_link(lab.torch, lab.folder / "large")
    assert_healthy(run_doctor(lab))


def test_an_environment_that_lies_elsewhere(make_lab):
    lab = make_lab()
    move_and_link(lab.environment.prefix, lab.folder / "large")
    assert_healthy(run_doctor(lab))


# --- what is there and hides nothing --------------------------------------------------------------


def test_another_torch_that_comes_after_the_installed_one(make_lab):
    """A folder that a .pth file names stands behind site-packages."""
    lab = make_lab()
    other = lab.copy_torch(lab.folder / "other", "2.4.1")
    (lab.site / "other.pth").write_text(f"{other}\n")
    assert_healthy(run_doctor(lab))


def test_bytecode_of_another_Python(make_lab):
    """Python compiles such a module again."""
    lab = make_lab()
    (lab.torch / "__pycache__").mkdir(exist_ok=True)
    for name in ("__init__", "version"):
        path = lab.torch / "__pycache__" / f"{name}.cpython-311.pyc"
        path.write_bytes(b"\x61\x0d\x0d\x0a" + b"\0" * 200)
    assert_healthy(run_doctor(lab))


def test_a_folder_of_data_with_the_name_of_a_package(make_lab):
    """Without __init__.py it hides no installed one."""
    lab = make_lab()
    (lab.folder / "numpy").mkdir()
    (lab.folder / "numpy" / "values.txt").write_text("1 2 3")
    assert_healthy(run_doctor(lab))


# --- settings -------------------------------------------------------------------------------------


def test_settings_of_pip_below_the_home_and_with_spaces(make_lab):
    """pip puts the home in for `~`, and takes a path of certificates whole."""
    lab = make_lab()
    home, certificates = Path(lab.variables["HOME"]), lab.folder / "my certificates"
    for folder in (home / "wheels", certificates):
        folder.mkdir(parents=True, exist_ok=True)
    (certificates / "ca.pem").write_text("")
    lab.variables["PIP_FIND_LINKS"] = "~/wheels"
    lab.variables["PIP_CERT"] = str(certificates / "ca.pem")
    assert_healthy(run_doctor(lab))


def test_addresses_that_are_none(make_lab):
    """pip refuses them where it needs them; here nobody does."""
    lab = make_lab()
    lab.variables["PIP_FIND_LINKS"] = "file://["
    lab.variables["PIP_INDEX_URL"] = "http://[::1/simple"
    lab.variables["HTTPS_PROXY"] = "http://[oops"
    lab.variables["http_proxy"] = "http://127.0.0.1:99999999"
    assert_healthy(run_doctor(lab))


def test_records_of_an_origin_and_of_conda_that_say_nothing(make_lab):
    lab = make_lab()
    addresses = ('{"url": "file://["}', "[]", '{"url": 5}', '{"url": "file:///%ff"}')
    for number, text in enumerate(addresses):
        files.write(lab, f"alpha{number}", "1.0")
        (lab.info(f"alpha{number}") / "direct_url.json").write_text(text)
    folder = lab.environment.prefix / "conda-meta"
    folder.mkdir()
    (folder / "history").write_text("")
    (folder / "pytorch-1.json").write_text('{"name": "pytorch", "version": 2.5}')
    (folder / "pytorch-2.json").write_text('{"name": [], "version": {}}')
    (folder / "mkl-1.json").write_text("[1]")
    os.mkfifo(folder / "libtorch-1.json")
    assert_healthy(run_doctor(lab))


def test_nobody_waits_for_what_is_no_file(make_lab):
    lab = make_lab()
    for name in ("WHEEL", "INSTALLER"):
        (lab.info("torch") / name).unlink()
        os.mkfifo(lab.info("torch") / name)
    os.mkfifo(lab.info("torch") / "direct_url.json")
    assert_healthy(run_doctor(lab, "--report"))
