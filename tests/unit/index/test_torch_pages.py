"""Pages of torch's hosts: which wheel of a version, what is believed, why there is none."""

from __future__ import annotations

import hashlib

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.index.catalog import torch_table
from safe_install.index.torch_files import (
    Absent,
    TorchFile,
    is_metadata_of,
    pinned_compilers,
    read_requires,
)
from safe_install.index.torch_pages import TorchPages
from safe_install.models import TorchBuild
from safe_install.system.http import PageAnswer, PageStatus
from safe_install.tags import supported_tags
from tests.factories import make_interpreter

TORCH = canonicalize_name("torch")
WHL = "https://download.pytorch.org/whl"
PAGE = f"{WHL}/cu126/torch/"
LTS = f"{WHL}/lts/1.8/torch_lts.html"
TAGS = supported_tags("3.11", "cpython", "linux_x86_64", ("glibc", "2.36"))
HERE = make_interpreter(tags=TAGS)
METADATA = "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cu126\nRequires-Dist: filelock\n\nName: other\n"
FILE = "torch-2.13.0%2Bcu126-cp311-cp311-manylinux_2_28_x86_64.whl"


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def anchor(href, *, promise="", extra=""):
    told = f' data-core-metadata="{promise}"' if promise else ""
    return f'<a href="{href}#sha256={"1" * 64}"{told}{extra}>x</a>'


class Answers:
    def __init__(self, **pages):
        self.pages, self.asked = pages, []

    def get_page(self, url, *, allowed_hosts=(), accept=""):
        self.asked.append((url, tuple(allowed_hosts)))
        answer = self.pages.get(url)
        if answer is None:
            return PageAnswer(url, PageStatus.MISSING, detail="HTTP 404")
        if isinstance(answer, PageAnswer):
            return answer
        if isinstance(answer, PageStatus):
            return PageAnswer(url, answer, detail="HTTP 500")
        return PageAnswer(url, PageStatus.LISTED, answer, asked=url)


def find(pages, version="2.13.0+cu126", *, here=HERE, accelerator="cu126", offline=""):
    reader = TorchPages(Answers(**pages), torch_table(), offline=offline)
    release = Version(version).public
    return reader.find_file(TORCH, Version(version), accelerator, here, release=release)


def test_a_file_with_its_metadata():
    link = anchor(f"/whl/cu126/{FILE}", promise=f"sha256={digest(METADATA)}")
    found = find({PAGE: link, f"{WHL}/cu126/{FILE}.metadata": METADATA})
    assert isinstance(found, TorchFile)
    assert (found.candidate.link.url, found.candidate.link.sha256) == (
        f"{WHL}/cu126/{FILE}",
        "1" * 64,
    )
    assert (found.metadata, found.candidate.requires) == (METADATA, ("filelock",))
    assert (found.candidate.built_for.accelerator, str(found.candidate.version)) == (
        "cu126",
        "2.13.0+cu126",
    )


@pytest.mark.parametrize(
    ("promise", "metadata"),
    [
        ("", METADATA),  # the page promises none
        ("true", METADATA),  # it promises no hash
        (f"sha256={'2' * 64}", METADATA),  # it promises another one
        (f"sha256={digest(METADATA)}", None),  # it is not there
        (f"sha256={digest(METADATA.replace('2.13', '2.12'))}", METADATA.replace("2.13", "2.12")),
        (f"sha256={digest('Name: evil')}", "Name: evil"),
    ],
)
def test_metadata_that_is_not_promised_is_not_believed(promise, metadata):
    found = find(
        {
            PAGE: anchor(f"/whl/cu126/{FILE}", promise=promise),
            f"{WHL}/cu126/{FILE}.metadata": metadata,
        }
    )
    assert isinstance(found, TorchFile)
    assert (found.metadata, found.candidate.requires) == (None, ())


@pytest.mark.parametrize(
    ("links", "filename"),
    [
        # the newest glibc tag that fits is the best one
        (
            ["torch-2.13.0%2Bcu126-cp311-cp311-linux_x86_64.whl", FILE],
            "torch-2.13.0+cu126-cp311-cp311-manylinux_2_28_x86_64.whl",
        ),
        (["torch-2.13.0%2Bcu126-cp312-cp312-manylinux_2_28_x86_64.whl"], None),
        (["torch-2.13.0%2Bcu126-cp311-cp311t-manylinux_2_28_x86_64.whl"], None),
        (["torch-2.13.0%2Bcu126-cp311-cp311-manylinux_2_28_aarch64.whl"], None),
        (["torch-2.13.0%2Bcu126-cp311-cp311-win_amd64.whl"], None),
        (["torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl"], None),
        (["torch-2.13.0%2Bcu126.with.pypi.cudnn-cp311-cp311-linux_x86_64.whl"], None),
        (["torchvision-2.13.0%2Bcu126-cp311-cp311-linux_x86_64.whl"], None),
        (["https://evil.example/torch-2.13.0%2Bcu126-cp311-cp311-linux_x86_64.whl"], None),
        (
            [
                "https://download-r2.pytorch.org/whl/cu126/torch-2.13.0%2Bcu126-cp311-cp311-linux_x86_64.whl"
            ],
            "torch-2.13.0+cu126-cp311-cp311-linux_x86_64.whl",
        ),
    ],
)
def test_the_wheel_for_this_interpreter(links, filename):
    found = find({PAGE: "\n".join(map(anchor, links))})
    assert (found.candidate.link.filename if isinstance(found, TorchFile) else None) == filename
    if filename is None:
        assert found == Absent(f"{PAGE} has no wheel of it for Python 3.11 on linux_x86_64")


@pytest.mark.parametrize(
    ("extra", "is_there"),
    [
        (' data-yanked=""', False),
        (' data-requires-python="&gt;=3.12"', False),
        (' data-requires-python="&gt;=3.10"', True),
        (' data-requires-python="a joke"', True),
    ],
)
def test_what_the_page_says_of_a_file(extra, is_there):
    assert (
        isinstance(find({PAGE: anchor(f"/whl/cu126/{FILE}", extra=extra)}), TorchFile) is is_there
    )


MIRROR = "name a mirror with SAFE_INSTALL_MIRRORS."
DOWN = Absent(
    "download.pytorch.org does not answer (HTTP 500)",
    f"Try again when download.pytorch.org answers, or {MIRROR}",
)
TOO_LARGE = "the page is larger than 64 MiB"


def test_why_there_is_no_page():
    assert find({}) == Absent(f"there is no page {PAGE} (HTTP 404)")
    assert find({PAGE: PageStatus.EMPTY}) == Absent(f"the page {PAGE} is empty")
    assert find({PAGE: PageStatus.DOWN}) == DOWN
    assert find({}, offline="--offline") == Absent(
        "download.pytorch.org was not asked (--offline)",
        "Leave --offline out to ask download.pytorch.org.",
        forbidden_by="--offline",
    )


def test_a_page_that_is_too_large_is_no_host_that_is_down():
    """The pages of other accelerators are asked all the same."""
    other = f"{WHL}/cu130/torch/"
    too_large = PageAnswer(PAGE, PageStatus.DOWN, detail=TOO_LARGE, is_unread=True)
    file = anchor(f"/whl/cu130/{FILE.replace('cu126', 'cu130')}")
    reader = TorchPages(Answers(**{PAGE: too_large, other: file}), torch_table())
    problem = reader.list_files("torch", "cu126", HERE).problem
    assert problem == Absent(
        f"the page {PAGE} cannot be read: {TOO_LARGE}",
        "Name a mirror of its host with SAFE_INSTALL_MIRRORS.",
    )
    assert reader.list_files("torch", "cu130", HERE).releases("cu130") == ("2.13.0",)


def test_a_release_that_lies_on_a_page_of_its_own():
    here = make_interpreter(
        tags=supported_tags("3.8", "cpython", "linux_x86_64", ("glibc", "2.31")), version="3.8.10"
    )
    pages = {LTS: anchor("cu111/torch-1.8.2%2Bcu111-cp38-cp38-linux_x86_64.whl")}
    found = find(pages, "1.8.2+cu111", here=here, accelerator="cu111")
    assert isinstance(found, TorchFile)
    assert (
        found.candidate.link.url
        == f"{WHL}/lts/1.8/cu111/torch-1.8.2%2Bcu111-cp38-cp38-linux_x86_64.whl"
    )
    assert isinstance(find(pages, "1.8.1+cu111", here=here, accelerator="cu111"), Absent)


def test_each_page_is_asked_once():
    answers = Answers(**{PAGE: anchor(f"/whl/cu126/{FILE}")})
    reader = TorchPages(answers, torch_table())
    listing = reader.list_files("torch", "cu126", HERE)
    for version in ("2.13.0+cu126", "2.12.0+cu126"):
        reader.find_file(TORCH, Version(version), "cu126", HERE, release=version[:6])
    assert listing.releases("cu126") == ("2.13.0",)
    assert [url for url, _ in answers.asked] == [PAGE]


def test_a_host_that_does_not_answer_is_not_asked_again():
    answers = Answers(**{PAGE: PageStatus.DOWN, f"{WHL}/cu130/torch/": PageStatus.DOWN})
    reader = TorchPages(answers, torch_table())
    found = {reader.list_files("torch", name, HERE).problem for name in ("cu126", "cu130", "cpu")}
    assert found == {DOWN}
    assert [url for url, _ in answers.asked] == [PAGE]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("pytorch-triton-rocm==3.5.1", [("pytorch-triton-rocm", "3.5.1")]),
        ('triton-xpu==3.6.0; platform_system == "Linux"', [("triton-xpu", "3.6.0")]),
        ('triton-xpu==3.6.0; platform_system == "Windows"', []),
        ("pytorch-triton-rocm>=3", []),
        ("pytorch-triton-rocm==3.*", []),
        ("triton==3.8.0", []),  # the package index has it
        ("evil==1.0", []),
        ("not a requirement ==", []),
    ],
)
def test_the_compilers_that_lie_beside_torch(text, names):
    assert [(name, str(version)) for name, version in pinned_compilers([text], HERE)] == names


def test_metadata_is_read_up_to_its_body():
    assert is_metadata_of(METADATA, TORCH, Version("2.13.0+cu126"))
    assert not is_metadata_of(METADATA, canonicalize_name("other"), Version("2.13.0+cu126"))
    assert not is_metadata_of("", TORCH, Version("1"))
    assert not is_metadata_of("Name: torch\nVersion: new", TORCH, Version("1"))
    assert read_requires(
        "Requires-Dist: a>=1\nRequires-Dist: ((\nRequires-Dist: b ; extra == 'x'\n\nRequires-Dist: "
        "c"
    ) == (
        "a>=1",
        'b; extra == "x"',
    )


def test_the_places_of_the_person_have_builds_too(tmp_path):
    """Whether the host of torch answers or not; what they have comes first."""
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    (tmp_path / "torch-2.12.0-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    (tmp_path / "torch-2.14.0+cpu-cp312-cp312-manylinux_2_28_x86_64.whl").touch()
    link = '<a href="/f/torch-2.13.1%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl">x</a>'
    index = {"https://mine.example/simple/torch/": link}
    for host in ({f"{WHL}/cpu/torch/": PageStatus.DOWN}, {f"{WHL}/cpu/torch/": anchor("/x.whl")}):
        answers = Answers(**index, **host)
        reader = TorchPages(
            answers,
            torch_table(),
            find_links=[str(tmp_path), "https://mine.example/missing"],
            indexes=["https://mine.example/simple"],
        )
        listing = reader.list_torch("cpu", HERE)
        assert listing.own == ("2.13.0+cpu", "2.13.1+cpu")
        assert listing.releases("cpu") == ("2.13.1", "2.13.0")
        found = reader.find_file(TORCH, Version("2.13.0+cpu"), "cpu", HERE, release="2.13.0")
        assert isinstance(found, TorchFile)
        assert found.candidate.link.url.startswith(tmp_path.as_uri())
        other = reader.find_file(TORCH, Version("2.12.0+cpu"), "cpu", HERE, release="2.12.0")
        assert isinstance(other, Absent)
        assert other.is_open is (PageStatus.DOWN in host.values())
        assert [url for url, _ in answers.asked].count("https://mine.example/simple/torch/") == 1


@pytest.mark.parametrize(("offline", "is_asked"), [("--offline", False), ("--no-index", True)])
def test_which_places_may_be_asked(tmp_path, offline, is_asked):
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    answers = Answers()
    places = [str(tmp_path), "https://mine.example/page"]
    reader = TorchPages(answers, torch_table(), offline=offline, find_links=places)
    assert reader.list_torch("cpu", HERE).own == ("2.13.0+cpu",)
    assert bool(answers.asked) is is_asked


# --- builds of pypi.org, where pip searches other places ------------------------------------------

COMPANY = "https://who:secret@company.example/simple"
COMPANY_PAGE = f"{COMPANY}/torch/"
CU130 = TorchBuild(Version("2.14.1"), "2.14.1+cu130", "cu130")


def wheel_link(version):
    name = f"torch-{version.replace('+', '%2B')}-cp311-cp311-manylinux_2_28_x86_64.whl"
    return f'<a href="/f/{name}">x</a>'


@pytest.mark.parametrize(
    ("pages", "said", "reason", "is_open"),
    [
        ({COMPANY_PAGE: wheel_link("2.14.1")}, {}, None, False),
        ({COMPANY_PAGE: wheel_link("2.14.1+cu130")}, {}, None, False),
        (
            {COMPANY_PAGE: wheel_link("2.13.0")},
            {},
            "no wheel of it for Python 3.11 on linux_x86_64 is in https://****@company.example/simple",
            False,
        ),
        (
            {COMPANY_PAGE: wheel_link("2.14.1+cpu")},
            {},
            "only the build 2.14.1+cpu is in https://****@company.example/simple",
            True,
        ),
        (
            {COMPANY_PAGE: wheel_link("2.14.1+ours")},
            {},
            "only the build 2.14.1+ours is in https://****@company.example/simple",
            False,
        ),
        (
            {},
            {"find_links": ["/nowhere"]},
            "no wheel of it for Python 3.11 on linux_x86_64 is in "
            "https://****@company.example/simple or /nowhere",
            False,
        ),
        ({COMPANY_PAGE: PageStatus.DOWN}, {}, "company.example does not answer (HTTP 500)", True),
        ({}, {"offline": "--offline"}, None, False),  # not known: it was not asked
        (
            {},
            {"offline": "--no-index", "indexes": []},
            "--no-index leaves no place where it could be",
            False,
        ),
    ],
)
def test_why_a_build_is_not_on_the_index_that_pip_searches(pages, said, reason, is_open):
    reader = TorchPages(Answers(**pages), torch_table(), **{"indexes": [COMPANY], **said})
    found = reader.why_not_on_own_index(CU130, HERE)
    if reason is None:
        assert found is None
    else:
        assert (found.reason, found.is_open) == (reason, is_open)
