"""The guard is for the torch that is imported, with or without metadata, and for its files, not
only its version."""

from __future__ import annotations

import shutil

import pytest

from tests.functional.test_intruders import DEMO, PURE, make_project
from tests.functional.test_probe import FINDER
from tests.lab.wheels import write_wheel
from tests.unit.wheels.crafted import make_wheel

TORCH = "torch==2.13.0+cpu"
any_python = pytest.mark.any_python
FURTHER = (any_python, pytest.mark.long)


@pytest.fixture(params=["pth", "PYTHONPATH", "finder"])
def environment(request, make_environment, tmp_path):
    """torch lies in a folder of its own, without metadata, and Python is led to it."""
    made = make_environment("3.11", TORCH)
    source = tmp_path / "source"
    source.mkdir()
    shutil.move(str(made.site / "torch"), str(source))
    for folder in made.site.glob("torch-*.dist-info"):
        shutil.rmtree(folder)
    if request.param == "pth":
        (made.site / "source.pth").write_text(f"{source}\n")
    elif request.param == "finder":
        (made.site / "editable_finder.py").write_text(FINDER.format(source=str(source)))
        (made.site / "editable.pth").write_text("import editable_finder\n")
    else:
        made.variables["PYTHONPATH"] = str(source)
    return made


@pytest.fixture
def wheels(tmp_path, lab_wheels):
    folder = tmp_path / "wheels"
    shutil.copytree(lab_wheels("3.11").index, folder)
    write_wheel(folder, "any-tools", "1.0", {"any_tools.py": ""}, requires=["torch"])
    return folder


def test_a_dependency_brings_no_second_torch(environment, wheels):
    before = environment.tree()
    for words in (("--dry-run",), ()):
        document = environment.document("install", *words, "--find-links", str(wheels), "any-tools")
        assert (document["exit_code"], document["outcome"]) == (11, "refused"), document
        assert "torch" in document["error"]["message"]
    assert environment.tree() == before
    assert environment.ask("import torch; print(torch.__version__)") == "2.13.0+cpu"


# --- the same version, other files ----------------------------------------------------------------


@pytest.fixture
def with_companions(make_environment, tmp_path):
    """torchvision and a library of torch are there; the folders `same` and `other` have these
    versions of them."""
    made = make_environment("3.11", TORCH)
    for name in ("same", "other"):
        folder = tmp_path / name
        write_wheel(
            folder, "torchvision", "0.28.0", {"torchvision/__init__.py": f"name = {name!r}\n"}
        )
        write_wheel(folder, "nvidia-demo", "1.0", {"nvidia/demo/lib/libdemo.so.1": name})
        write_wheel(folder, "image-tools", "1.0", {"image_tools.py": ""}, requires=["torchvision"])
        write_wheel(folder, "gpu-tools", "1.0", {"gpu_tools.py": ""}, requires=["nvidia-demo"])
    made.must_pip(
        "install", "--quiet", "--find-links", str(tmp_path / "same"), "image-tools", "gpu-tools"
    )
    return made


@pytest.mark.parametrize(
    ("option", "project", "file"),
    [
        ("-I", "image-tools", "torchvision/__init__.py"),
        pytest.param(
            "--force-reinstall", "gpu-tools", "nvidia/demo/lib/libdemo.so.1", marks=FURTHER
        ),
    ],
)
def test_a_companion_of_the_same_version_is_guarded_by_its_files(
    with_companions, tmp_path, option, project, file
):
    before = with_companions.tree()
    for more in (("--dry-run",), ()):
        document = with_companions.document(
            "install", *more, option, project, PIP_FIND_LINKS=str(tmp_path / "other")
        )
        assert (document["exit_code"], document["outcome"]) == (11, "refused"), document
        assert [finding["check"] for finding in document["findings"]] == ["companion-moved"]
        assert f"other files of the same version ({file})" in document["error"]["message"]
    assert with_companions.tree() == before


@any_python
@pytest.mark.long
def test_the_same_files_again_are_harmless(with_companions, tmp_path):
    words = ("install", "--force-reinstall", "gpu-tools")
    harmless = with_companions.document(*words, PIP_FIND_LINKS=str(tmp_path / "same"))
    assert harmless["exit_code"] == 0, harmless
    assert [step["name"] for step in harmless["plan"]["steps"]] == ["gpu-tools", "nvidia-demo"]
    named = with_companions.document(*words, "nvidia-demo", PIP_FIND_LINKS=str(tmp_path / "other"))
    assert named["exit_code"] == 0, named


@any_python
@pytest.mark.long
def test_a_companion_that_would_be_built_anew_is_refused(with_companions, tmp_path):
    """pip installs the same version again where a requirement names a folder of sources."""
    project = make_project(tmp_path, "pass", "wheel")
    for file in (project / "pyproject.toml", project / "backend.py"):
        file.write_text(
            file.read_text().replace("intruder", "torchvision").replace("1.0", "0.28.0")
        )
    requires = [f"torchvision @ {project.as_uri()}"]
    write_wheel(tmp_path / "other", "vision-user", "1.0", {"vision_user.py": ""}, requires=requires)
    before = with_companions.tree()
    for more in (("--dry-run",), ()):
        words = ("install", *more, "vision-user")
        document = with_companions.document(
            *words, PIP_FIND_LINKS=str(tmp_path / "other"), SITE_OF_THE_TEST=""
        )
        assert document["exit_code"] == 11, document
        assert (
            "torchvision 0.28.0 would be replaced by one built from file:"
            in document["error"]["message"]
        )
    assert with_companions.tree() == before


# --- what torch needs -----------------------------------------------------------------------------


def test_what_torch_needs_is_not_uninstalled_under_it(make_environment):
    environment = make_environment("3.11", "torch==1.8.1+cu111")
    before = environment.tree()
    document = environment.document("uninstall", "-y", "typing-extensions")
    assert (document["exit_code"], document["outcome"]) == (11, "refused")
    assert (
        "torch 1.8.1+cu111 requires typing-extensions, which is not installed"
        in document["error"]["message"]
    )
    assert "safe-install uninstall typing-extensions torch" in document["error"]["hint"]
    assert environment.tree() == before
    tried = environment.safe_install("uninstall", "-y", "--allow-torch-change", "typing-extensions")
    assert tried.returncode == 12, tried.stderr
    assert environment.tree() == before
    kept = environment.safe_install("uninstall", "-y", "--no-rollback", "typing-extensions")
    assert kept.returncode == 12, kept.stderr
    assert environment.cuda().startswith("ModuleNotFoundError")


@any_python
@pytest.mark.long
def test_what_torch_needs_goes_with_torch(make_environment):
    environment = make_environment("3.11", "torch==1.8.1+cu111")
    removed = environment.safe_install("uninstall", "-y", "typing-extensions", "torch")
    assert removed.returncode == 0, removed.stderr


@any_python
@pytest.mark.long
def test_what_others_need_is_a_warning_as_with_pip(make_environment):
    environment = make_environment("3.11", "torch==1.8.1+cu111", "middle-tools --no-deps")
    environment.must_pip("install", "--no-deps", "deep-tools")
    removed = environment.safe_install("uninstall", "-y", "middle-tools")
    assert removed.returncode == 0
    assert "deep-tools 1.0 requires middle-tools" in removed.stderr


@any_python
@pytest.mark.long
@pytest.mark.parametrize("is_listed", [True, False])
def test_functorch_is_closed_where_torch_brings_it(make_environment, tmp_path, is_listed):
    environment = make_environment("3.11", "torch==1.8.1+cu111")
    if is_listed:
        (environment.site / "functorch").mkdir()
        (environment.site / "functorch" / "__init__.py").touch()
        with (environment.site / "torch-1.8.1+cu111.dist-info" / "RECORD").open("a") as record:
            record.write("functorch/__init__.py,,\n")
    wheel = make_wheel(
        tmp_path,
        {"functorch/hook.py": ""},
        metadata=DEMO,
        wheel=PURE,
        filename="demo-1.0-py3-none-any.whl",
    )
    completed = environment.safe_install("install", str(wheel))
    assert completed.returncode == (11 if is_listed else 0), completed.stderr
    assert ("functorch/hook.py would be loaded by torch" in completed.stderr) == is_listed
