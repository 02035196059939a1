"""torch.json is renewed from pages, metadata, files in wheels and the build matrix; what a source
does not say is not written."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any, Dict
from urllib.parse import quote

import pytest

from safe_install.index.catalog import load_project, torch_table
from safe_install.index.document import parse_torch_table, render_document
from safe_install.index.pages import parse_page
from tests.scripts import load_script
from tests.wheelhost import WheelHost

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "wheel_index"
script = load_script("update_wheel_index")
facts = load_script("wheel_index_update.torch_facts")
merging = load_script("wheel_index_update.torch_merging")
renewal = load_script("wheel_index_update.torch_renewal")

CU130 = "https://download.pytorch.org/whl/cu130/torch/"
# A line as download.pytorch.org has it (pytorch/test-infra:s3_management/manage.py).
LINE = (
    '    <a href="/whl/{folder}/{quoted}#sha256={hash}" data-dist-info-metadata="sha256={hash}"'
    ' data-core-metadata="sha256={hash}">{name}</a><br/>\n'
)
NAMES = (
    "torch-2.9.1+cu130-cp310-cp310-manylinux_2_28_x86_64.whl",
    "torch-2.9.1+cu130-cp313-cp313t-manylinux_2_28_x86_64.whl",
    "torch-2.9.1+cu130-cp314-cp314-manylinux_2_28_x86_64.whl",
    "torch-2.10.0+cu130-cp312-cp312-manylinux_2_28_aarch64.whl",
    "torch-2.11.0+cu130-cp312-cp312-win_amd64.whl",
    "torch-2.12.0.dev20260301+cu130-cp312-cp312-manylinux_2_28_x86_64.whl",
    "torch_tensorrt-2.9.0+cu130-cp312-cp312-manylinux_2_34_x86_64.whl",
    "torch-2.9.1+cu126-cp312-cp312-manylinux_2_28_x86_64.whl",
    "torch-2.6.0+cpu.cxx11.abi-cp312-cp312-linux_x86_64.whl",
    "torch-2.9.1+rocm6.4-cp312-cp312-manylinux_2_28_x86_64.whl",
    "torch-2.9.1+cu999-cp312-cp312-linux_x86_64.whl",
)
PAGE = (
    "<!DOCTYPE html>\n<html>\n  <body>\n    <h1>Links for torch</h1>\n"
    + "".join(
        LINE.format(
            folder=name.split("+")[1].split("-")[0], quoted=quote(name), name=name, hash="a" * 64
        )
        for name in NAMES
    )
    + "  </body>\n</html>\n<!--TIMESTAMP 1795000000-->"
)


def links_of(text, url=CU130):
    return parse_page(text, url, project="torch")


# --- one page -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accelerator", "builds"),
    [
        ("cu130", {"2.9.1": ("3.10", "3.14")}),
        ("cu126", {"2.9.1": ("3.12",)}),
        ("cpu", {}),  # +cpu.cxx11.abi is another build
        ("cu128", {}),
    ],
)
def test_the_builds_on_a_page(accelerator, builds):
    assert facts.read_builds(links_of(PAGE), accelerator) == builds


def test_the_accelerators_on_the_page_of_all_builds():
    """Those of a kind that torch.json lists, and that can be."""
    assert facts.read_accelerators(links_of(PAGE), torch_table()) == ["cu126", "cu130"]


def index_page(*names):
    files = [
        {"filename": name, "url": f"https://files.pythonhosted.org/packages/aa/{name}"}
        for name in names
    ]
    return parse_page(
        json.dumps({"files": files}), "https://pypi.org/simple/torch/", project="torch"
    )


def test_the_releases_on_the_package_index():
    found = facts.read_index_releases(
        index_page(
            "torch-2.10.0-3-cp310-cp310-manylinux_2_28_x86_64.whl",
            "torch-2.10.0-cp39-cp39-manylinux_2_28_x86_64.whl",
            "torch-2.10.0-cp313-cp313t-manylinux_2_28_x86_64.whl",
            "torch-2.10.0-cp311-cp311-manylinux_2_28_aarch64.whl",
            "torch-2.10.0-cp314-cp314-macosx_14_0_arm64.whl",
            "torch-2.0.0-1-cp310-cp310-manylinux2014_aarch64.whl",
            "torch-1.8.1-cp36-cp36m-manylinux1_x86_64.whl",
            "torch-2.11.0rc1-cp310-cp310-manylinux_2_28_x86_64.whl",
            "torch-2.11.0.tar.gz",
        )
    )
    assert {release: one.python for release, one in found.items()} == {
        "2.10.0": ("3.9", "3.10"),
        "2.0.0": (),
        "1.8.1": ("3.6",),
    }
    wheels = {
        (release, machine): link.filename
        for release, one in found.items()
        for machine, link in one.wheels.items()
    }
    assert wheels == {
        ("2.10.0", "x86_64"): "torch-2.10.0-3-cp310-cp310-manylinux_2_28_x86_64.whl",
        ("2.10.0", "aarch64"): "torch-2.10.0-cp311-cp311-manylinux_2_28_aarch64.whl",
        ("2.0.0", "aarch64"): "torch-2.0.0-1-cp310-cp310-manylinux2014_aarch64.whl",
        ("1.8.1", "x86_64"): "torch-1.8.1-cp36-cp36m-manylinux1_x86_64.whl",
    }


# --- what a build is for --------------------------------------------------------------------------

ON_X86 = 'platform_system == "Linux" and platform_machine == "x86_64"'


@pytest.mark.parametrize(
    ("requires", "x86_64", "aarch64"),
    [
        # as torch 1.13.0, 2.0.1, 2.9.1, 2.13.0 and 2.9.1+cu130 write it
        (["nvidia-cuda-runtime-cu11 (==11.7.99)", "nvidia-cudnn-cu11 (==8.5.0.96)"],)
        + ("cu117",) * 2,
        ([f"nvidia-cuda-runtime-cu11 (==11.7.99) ; {ON_X86}"], "cu117", None),
        ([f"nvidia-cuda-runtime-cu12==12.8.90; {ON_X86}", "sympy>=1.13.3"], "cu128", None),
        (
            [
                'cuda-toolkit[cublas,cudart,nvtx]==13.0.3; platform_system == "Linux"',
                'cuda-bindings<14,>=13.0.3; platform_system == "Linux" and python_version < "3.15"',
                'nvidia-cudnn-cu13==9.20.0.48; platform_system == "Linux"',
            ],
            "cu130",
            "cu130",
        ),
        ([f"nvidia-cuda-runtime==13.0.48; {ON_X86}"], "cu130", None),
        (['cuda-toolkit==13.2.2; sys_platform == "win32"'], None, None),
        # no answer: nothing, two, a range, no version, for an extra, of something else
        (["filelock", "typing-extensions"], None, None),
        (["cuda-toolkit==13.0.3", "nvidia-cuda-runtime-cu12==12.8.90"], None, None),
        (["cuda-toolkit>=13.0.3"], None, None),
        (["cuda-toolkit==13.*"], None, None),
        (["cuda-toolkit==13"], None, None),
        (['cuda-toolkit==13.0.3; extra == "cuda"'], None, None),
        (["nvidia-cuda-runtime-evil==13.0.3", "cuda-toolkit-evil==13.0.3"], None, None),
        (["cuda-toolkit==13.0.3; platform_system ~= 'x'", "\x1b]0;", "=" * 5000], None, None),
    ],
)
def test_the_accelerator_in_a_metadata(requires, x86_64, aarch64):
    found = [
        facts.accelerator_of_requirements(requires, machine, "3.12")
        for machine in ("x86_64", "aarch64")
    ]
    assert found == [x86_64, aarch64]


def version_file(version, cuda, extra="hip: Optional[str] = None\n"):
    """As torch 2.10 has it."""
    return (
        "from typing import Optional\n\n"
        "__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'rocm', 'xpu']\n"
        f"__version__ = {version!r}\ndebug = False\ncuda: Optional[str] = {cuda!r}\n"
        f"git_version = '449b1768410104d3ed79d3bcfe4ba1d65c7f22c0'\n{extra}"
    )


@pytest.mark.parametrize(
    ("text", "accelerator"),
    [
        ("__version__ = '1.8.1+cu102'\ndebug = False\ncuda = '10.2'\nhip = None\n", "cu102"),
        ("__version__ = '1.8.1'\ndebug = False\ncuda = None\nhip = None\n", "cpu"),
        (version_file("1.8.1+cpu", None), "cpu"),
        (version_file("1.8.1+cu132", "13.2"), "cu132"),
        (version_file("1.8.1+rocm6.4", None, "hip: Optional[str] = '6.4.43484'\n"), "rocm6.4"),
        (version_file("1.8.1+xpu", None), "xpu"),
        (version_file("1.9.0", "12.8"), None),  # of another release
        ("__version__ = '1.8.1'\n", None),  # without a word of CUDA
        ("__version__ = '1.8.1'\ncuda = 12\n", None),
        ("cuda = '12.8'\n", None),
        ("", None),
        ("\0", None),
        ("(" * 5000, None),
    ],
)
def test_the_accelerator_in_a_version_file(text, accelerator):
    assert facts.accelerator_of_version_file(text, "1.8.1") == accelerator


# --- the build matrix -----------------------------------------------------------------------------

# As pytorch/test-infra:tools/scripts/generate_binary_build_matrix.py@61a77570 has it.
MATRIX = """
import os
PYTHON_ARCHES_DICT = {"release": ["3.10", "3.14t"]}
CUDA_ARCHES_DICT = {
    "nightly": ["12.6", "13.0", "13.2", "13.4"],
    "test": ["12.6", "13.0", "13.2", "13.4"],
    "release": ["12.6", "13.0", "13.2"],
}
CUDA_AARCH64_ARCHES = ["12.6-aarch64", "13.0-aarch64", "13.2-aarch64", "13.4-aarch64"]
CURRENT_NIGHTLY_VERSION = "2.15.0"
CURRENT_STABLE_VERSION = "2.13.0"
CURRENT_VERSION = CURRENT_STABLE_VERSION
CUDA_ARCHES = CUDA_ARCHES_DICT["nightly"]
os.environ["SEEN"] = "1"
"""


def test_the_build_matrix_is_read_and_not_run(monkeypatch):
    monkeypatch.delenv("SEEN", raising=False)
    matrix = facts.read_matrix(MATRIX, torch_table())
    assert (matrix.release, matrix.accelerators) == ("2.13.0", ("cpu", "cu126", "cu130", "cu132"))
    assert matrix.accelerators_aarch64 == ("cpu", "cu126", "cu130", "cu132")
    assert "SEEN" not in os.environ


@pytest.mark.parametrize("line", ["", "CUDA_AARCH64_ARCHES = 3", "CUDA_AARCH64_ARCHES = [13]"])
def test_a_build_matrix_that_says_nothing_of_aarch64(line):
    text = "\n".join(row for row in MATRIX.splitlines() if "AARCH64" not in row)
    matrix = facts.read_matrix(f"{text}\n{line}", torch_table())
    assert matrix.accelerators_aarch64 == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "404: Not Found",
        "CURRENT_STABLE_VERSION = '2.13.0'",
        MATRIX.replace('"2.13.0"', '"2.13"'),
        MATRIX.replace('"2.13.0"', "2"),
        MATRIX.replace('["12.6", "13.0", "13.2"]', "None"),
        MATRIX.replace('["12.6", "13.0", "13.2"]', "[12.6]"),
        MATRIX.replace('"release"', '"stable"'),
        "(" * 5000,
    ],
)
def test_what_is_no_build_matrix(text):
    assert facts.read_matrix(text, torch_table()) is None


# --- the rules ------------------------------------------------------------------------------------

OLD: Dict[str, Any] = {
    "torch": "2.9.1",
    "accelerators": ["cpu", "cu126", "cu128"],
    "untagged": "cu128",
    "companions": {"torchvision": "0.24.1"},
    "python": ["3.10", "3.11"],
    "note": "seen",
}
LINK = index_page("torch-2.9.1-cp310-cp310-manylinux_2_28_x86_64.whl")[0]


def page(accelerator, *builds, releases=()):
    return merging.PageFacts(accelerator, dict.fromkeys(builds, ("3.10",)), releases)


AARCH64 = [
    # known, the matrix, the pages (accelerator, releases for aarch64), then known
    (None, None, {"cu126": ["2.9.1"]}, None),
    (None, ("2.10.0", ("cpu", "cu126")), {}, None),
    (None, ("2.9.1", ()), {}, None),
    (None, ("2.9.1", ("cpu", "cu126")), {}, ["cpu", "cu126"]),
    (["cpu"], ("2.9.1", ("cpu", "cu126")), {}, ["cpu"]),
    (["cpu"], None, {"cu126": ["2.9.1"]}, ["cpu", "cu126"]),
    (["cpu", "cu126"], None, {"cu126": ["2.10.0"]}, ["cpu"]),
    (["cpu", "cu126"], None, {}, ["cpu", "cu126"]),
]


@pytest.mark.parametrize(("known", "matrix", "pages", "then"), AARCH64)
def test_what_is_known_of_aarch64(known, matrix, pages, then):
    row = {**OLD, **({"accelerators_aarch64": known} if known is not None else {})}
    found = merging.TorchFacts(
        pages=[
            merging.PageFacts(
                name, {"2.9.1": ("3.10",)}, builds_aarch64=dict.fromkeys(releases, ("3.10",))
            )
            for name, releases in pages.items()
        ],
        matrix=facts.BuildMatrix(matrix[0], ("cpu",), matrix[1]) if matrix else None,
    )
    (new,) = (one for one in merging.merge_releases([row], found).rows if one["torch"] == "2.9.1")
    assert new.get("accelerators_aarch64") == then


def on_index(*machines, python=("3.10",)):
    return facts.IndexRelease(python, dict.fromkeys(machines, LINK))


def merge(**found):
    return merging.merge_releases([OLD], merging.TorchFacts(**found))


@pytest.mark.parametrize(
    ("found", "changes"),
    [
        ({}, {}),
        # pages
        ({"pages": [page("cu128", "2.9.1")]}, {}),
        ({"pages": [page("cu128", "2.10.0")]}, {"accelerators": ["cpu", "cu126"]}),
        ({"pages": [page("cu118", "2.9.1")]}, {"accelerators": ["cpu", "cu118", "cu126", "cu128"]}),
        ({"pages": [page("cu130", "2.10.0")]}, {}),
        ({"pages": [page("cu128")], "elsewhere": ("2.9.1",)}, {}),
        ({"pages": [page("cu128", releases=("2.8.0",))]}, {}),
        (
            {"pages": [page("cu128", releases=("2.9.1",))], "elsewhere": ("2.9.1",)},
            {"accelerators": ["cpu", "cu126"]},
        ),
        # the matrix counts where the page was not read
        (
            {"matrix": facts.BuildMatrix("2.9.1", ("cpu", "cu130"))},
            {"accelerators": ["cpu", "cu126", "cu128", "cu130"]},
        ),
        (
            {"matrix": facts.BuildMatrix("2.9.1", ("cu130",)), "pages": [page("cu130", "2.10.0")]},
            {},
        ),
        ({"matrix": facts.BuildMatrix("2.10.0", ("cu130",))}, {}),
        # the package index
        ({"index": {"2.9.1": on_index("x86_64")}}, {}),
        ({"index": {"2.10.0": on_index("x86_64")}}, {"untagged": None}),
        ({"index": {"2.9.1": on_index("aarch64")}}, {"untagged": None}),
        (
            {
                "index": {"2.9.1": on_index("x86_64", "aarch64", python=("3.9", "3.11"))},
                "measured": {("2.9.1", "aarch64"): "cpu", ("2.9.1", "x86_64"): "cu128"},
            },
            {"untagged_aarch64": "cpu", "python": ["3.9", "3.10", "3.11"]},
        ),
        # another answer than the known one is not written
        (
            {
                "index": {"2.9.1": on_index("x86_64")},
                "measured": {("2.9.1", "x86_64"): "cu130"},
            },
            {},
        ),
    ],
)
def test_what_becomes_of_a_known_release(found, changes):
    merged = merge(**found)
    wanted = {key: value for key, value in {**OLD, **changes}.items() if value is not None}
    row = next(row for row in merged.rows if row["torch"] == "2.9.1")
    assert row == wanted
    assert (row is OLD) == (not changes)
    assert ("2.9.1" in merged.changed) == bool(changes)
    assert ("2.9.1" in merged.with_other_builds) == ("accelerators" in changes)


@pytest.mark.parametrize(
    ("found", "row", "said"),
    [
        (
            {
                "index": {"2.13.0": on_index("x86_64", "aarch64")},
                "measured": {("2.13.0", "x86_64"): "cu130", ("2.13.0", "aarch64"): "cu130"},
            },
            {"accelerators": [], "untagged": "cu130", "untagged_aarch64": "cu130"},
            "",
        ),
        (
            {
                "index": {"2.13.0": on_index("x86_64", "aarch64")},
                "measured": {("2.13.0", "x86_64"): "cu130"},
                "matrix": facts.BuildMatrix("2.13.0", ("cpu", "cu130")),
            },
            {"accelerators": ["cpu", "cu130"], "untagged": "cu130"},
            "the build of 2.13.0 for aarch64 on the package index: what it is for is not known",
        ),
        (
            {"pages": [page("cu126", "2.13.0"), page("cpu", "2.13.0")]},
            {"accelerators": ["cpu", "cu126"]},
            "",
        ),
        # what it is for was not read: no row
        (
            {
                "index": {"2.13.0": on_index("x86_64")},
                "matrix": facts.BuildMatrix("2.13.0", ("cpu",)),
            },
            None,
            "2.13.0 has no row: what its build on the package index is for was not read",
        ),
        # a release older than all that are written down was left out by a person
        (
            {
                "index": {"2.8.0": on_index("x86_64")},
                "measured": {("2.8.0", "x86_64"): "cu128"},
            },
            None,
            "",
        ),
    ],
)
def test_what_becomes_of_a_new_release(found, row, said):
    merged = merge(**found, companions=[load_project("torchvision")])
    rows = [one for one in merged.rows if one["torch"] != "2.9.1"]
    # torchvision.json: the metadata of 0.28.0 names torch 2.13.0 alone
    more = {"torch": "2.13.0", "companions": {"torchvision": "0.28.0"}, "python": ["3.10"]}
    assert rows == ([{**row, **more}] if row is not None else [])
    assert [list(one) for one in rows] == [
        [key for key in merging._ORDER if key in one] for one in rows
    ]
    assert not said or said in merged.notes


def test_another_answer_of_the_package_index_is_news():
    merged = merge(index={"2.9.1": on_index("x86_64")}, measured={("2.9.1", "x86_64"): "cu130"})
    assert merged.notes == [
        "the build of 2.9.1 for x86_64 on the package index is known to be for cu128, it says "
        "cu130: not changed"
    ]


# --- the whole script -----------------------------------------------------------------------------


@pytest.fixture
def host(monkeypatch):
    with WheelHost() as running:
        monkeypatch.setenv("SAFE_INSTALL_MIRRORS", running.mirrors)
        yield running


@pytest.fixture
def folder(tmp_path):
    """Three releases of torch, in a folder of its own."""
    document = json.loads((FOLDER / "torch.json").read_text("utf-8"))
    few = ("1.8.2", "2.10.0", "2.13.0")
    document["releases"] = [row for row in document["releases"] if row["torch"] in few]
    document["checked"] = "2026-01-01"
    for row in document["releases"]:
        row.pop("untagged_aarch64", None)
    (tmp_path / "torch.json").write_text(render_document(document), "utf-8")
    shutil.copy(FOLDER / "torchvision.json", tmp_path)
    return tmp_path


def run(folder, *words):
    return script.main(["--folder", str(folder), *words, "torch"])


def rows_of(folder):
    document = json.loads((folder / "torch.json").read_text("utf-8"))
    assert parse_torch_table(document, "torch.json")
    return {row["torch"]: row for row in document["releases"]}


def wheel(text):
    """A wheel with a torch/version.py, behind other files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("torch/lib/libtorch.so", bytes(200_000))
        archive.writestr("torch/version.py", text)
    return content.getvalue()


def put_index(host):
    """The package index: METADATA beside one wheel, torch/version.py in the others."""
    files = {
        "torch-2.10.0-cp312-cp312-manylinux_2_28_x86_64.whl": wheel(""),
        "torch-2.10.0-cp312-cp312-manylinux_2_28_aarch64.whl": wheel(
            version_file("2.10.0+cpu", None)
        ),
        "torch-2.13.0-cp312-cp312-manylinux_2_28_x86_64.whl": wheel(
            version_file("2.13.0+cu130", "13.0")
        ),
        "torch-2.14.0-cp312-cp312-manylinux_2_28_x86_64.whl": wheel("no wheel of torch"),
        "torch-2.15.0-cp312-cp312-manylinux_2_28_x86_64.whl": b"metadata says it",
        "torch-2.15.0-cp312-cp312-manylinux_2_28_aarch64.whl": wheel(
            version_file("2.15.0+cu132", "13.2")
        ),
    }
    host.add_pypi_page("torch", files)
    (path,) = [
        path
        for path in host.answers
        if path.endswith("2.15.0-cp312-cp312-manylinux_2_28_x86_64.whl")
    ]
    text = (
        "Metadata-Version: 2.4\nName: torch\nVersion: 2.15.0\n"
        'Requires-Dist: cuda-toolkit[cublas]==13.2.2; platform_system == "Linux"\n\n'
    )
    host.put(f"{path}.metadata", text.encode())


def put_pages(host):
    def names(accelerator, *releases):
        tags = "cp312-cp312-manylinux_2_28_x86_64"
        return {f"torch-{release}+{accelerator}-{tags}.whl": b"" for release in releases}

    everything = {}
    for accelerator, releases in {
        "cpu": ("2.10.0", "2.13.0", "2.15.0"),
        "cu126": ("2.10.0",),
        "cu128": ("2.10.0",),
        "cu130": ("2.10.0", "2.13.0"),
        "cu132": ("2.15.0",),
        "cu134": ("2.15.0",),
    }.items():
        wheels = names(accelerator, *releases)
        if "2.13.0" in releases:
            wheels[f"torch-2.13.0+{accelerator}-cp312-cp312-manylinux_2_28_aarch64.whl"] = b""
        host.add_pytorch_page(accelerator, "torch", wheels)
        everything.update(wheels)
    host.add_anchors("https://download.pytorch.org/whl/torch/", list(everything))
    host.misbehave("/whl/cu129/", "500")


def test_the_document_is_renewed(host, folder, capsys):
    put_index(host)
    put_pages(host)
    before = rows_of(folder)
    text = (folder / "torch.json").read_text("utf-8")
    assert run(folder) == 1
    assert (folder / "torch.json").read_text("utf-8") == text  # nothing is written without --write
    assert '+    {"torch": "2.15.0"' in capsys.readouterr().out

    assert run(folder, "--write") == 1
    out, err = capsys.readouterr()
    after = rows_of(folder)
    assert list(after) == ["1.8.2", "2.10.0", "2.13.0", "2.15.0"]
    assert after["1.8.2"] == before["1.8.2"]
    assert after["2.10.0"] == {
        **before["2.10.0"],
        "accelerators_aarch64": [],
        "untagged_aarch64": "cpu",
    }
    # the page of cu129 failed: what it had stays; 2.13.0 has no cu126 and no cu132 any more
    assert after["2.13.0"] == {
        **before["2.13.0"],
        "accelerators": ["cpu", "cu129", "cu130"],
        "accelerators_aarch64": ["cpu", "cu130"],
    }
    assert after["2.15.0"] == {
        "torch": "2.15.0",
        "accelerators": ["cpu", "cu132", "cu134"],
        "untagged": "cu132",
        "untagged_aarch64": "cu132",
        "companions": {},
        "python": ["3.12"],
    }
    assert out
    for line in (
        "torch: pytorch/test-infra: page-missing ('404 Not Found')",
        "torch: download.pytorch.org: 6 listed, 1 host-down",
        "torch: download.pytorch.org: host-down: https://download.pytorch.org/whl/cu129/torch/",
        "torch: pypi.org: listed, 4 releases",
        "torch: pypi.org: read from torch/version.py in the wheel: 2.15.0 for aarch64, 2.10.0 for aarch64",
        "torch: 2.14.0 has no row: what its build on the package index is for was not read",
    ):
        assert line in err
    written = (folder / "torch.json").read_text("utf-8")
    assert render_document(json.loads(written)) == written
    assert run(folder, "--write") == 0, capsys.readouterr().out


@pytest.mark.parametrize("fault", ["500", "404", "empty", "close", "truncated"])
def test_hosts_that_do_not_list_take_nothing_away(host, folder, fault):
    put_index(host)
    put_pages(host)
    host.misbehave("/whl/", fault)
    host.misbehave("/simple/", fault)
    text = (folder / "torch.json").read_text("utf-8")
    assert run(folder, "--write") == 0
    assert (folder / "torch.json").read_text("utf-8") == text


def test_the_build_matrix_serves_where_pages_fail(host, folder, capsys):
    url = renewal.MATRIX
    matrix = MATRIX.replace('"release": ["12.6", "13.0", "13.2"]', '"release": ["12.6", "13.4"]')
    host.put_file(url, matrix.encode())
    host.misbehave("/whl/", "500")
    before = rows_of(folder)["2.13.0"]["accelerators"]
    assert run(folder, "--write", "--host", "download.pytorch.org") == 1
    assert rows_of(folder)["2.13.0"]["accelerators"] == [*before, "cu134"]
    assert "pytorch/test-infra: 2.13.0 is built for cpu, cu126, cu134" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (wheel(version_file("2.10.0", None)), True),
        (b"no zip", False),
        (b"", False),
        (wheel("x" * 2_000_000), False),
        (wheel(version_file("2.10.0", None))[:-60], False),
    ],
    ids=["a wheel", "no zip", "empty", "too large", "cut off"],
)
def test_a_file_is_read_out_of_a_wheel_in_parts(host, content, read):
    remote = load_script("wheel_index_update.remote_wheel")
    mirrors = load_script("update_wheel_index").parse_mirrors(host.mirrors)
    url = "https://files.pythonhosted.org/packages/aa/torch-2.10.0-cp312-cp312-linux_x86_64.whl"
    host.put_file(url, content)
    wheels = remote.RemoteWheels(mirrors, script.World({}, None, None).network)
    text = wheels.read(url, "torch/version.py")
    assert (text is not None) == read
    assert wheels.read(url, "torch/other.py") is None
    assert wheels.read(f"{url}.gone", "torch/version.py") is None
