"""Every kind of host with the page that it really has: what fits is found there, and a failing host
is told of.

Page formats: the facts of docs/hosts.md; the addresses are those of real files.
"""

from __future__ import annotations

import dataclasses
import time

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from safe_install.errors import NoCandidate
from safe_install.index.catalog import bundled_catalog, load_project
from safe_install.index.finder import Finder
from safe_install.models import CandidateKind, Device, Driver, HostAnswerKind
from safe_install.pipeline.choice_text import cpu_fallback_notes
from safe_install.pipeline.client import named_mirrors
from safe_install.resolve.compatibility import Context
from safe_install.resolve.provider import resolve
from safe_install.resolve.ranking import rank_fitting
from safe_install.system.http import HttpClient
from safe_install.system.mirrors import apply_mirrors, parse_mirrors
from tests.factories import environment_for
from tests.wheelhost import WheelHost

MMCV = "https://download.openmmlab.com/mmcv/dist"
DGL = "https://data.dgl.ai/wheels"
FACEBOOK = "https://dl.fbaipublicfiles.com"
KAOLIN = "https://nvidia-kaolin.s3.us-east-2.amazonaws.com"
NERFACC = "https://nerfacc-bucket.s3.us-west-2.amazonaws.com/whl"
GSPLAT = "https://docs.gsplat.studio/whl"
K2 = "https://huggingface.co/csukuangfj/k2/resolve/main/ubuntu-cuda"
FLASH = "https://github.com/Dao-AILab/flash-attention/releases/download"
FLASH_REPOSITORY = "Dao-AILab/flash-attention"


@pytest.fixture
def host():
    with WheelHost() as running:
        yield running


def linux(torch, python="3.10", platform="manylinux_2_36_x86_64", **fields):
    return environment_for(torch=torch, python_version=python, platform=platform, **fields)


def finder(host, *, tokens=None, mirrors="", cache=None, **options):
    rules = parse_mirrors(f"{mirrors} {host.mirrors}", named_mirrors())
    return Finder(
        catalog=bundled_catalog(),
        http=HttpClient(mirrors=rules, timeout=1.0, tokens=tokens, cache_dir=cache),
        **options,
    )


def choose(text, environment, found_by, **options):
    return resolve(
        [Requirement(text)], environment, find=found_by.find, catalog=bundled_catalog(), **options
    )


def chosen(text, environment, found_by, **options):
    name = Requirement(text).name
    return next(
        pin for pin in choose(text, environment, found_by, **options).pins if pin.name == name
    )


def refused(text, environment, found_by, **options):
    with pytest.raises(NoCandidate) as caught:
        choose(text, environment, found_by, allow_build=False, **options)
    return caught.value


def rules_of(error):
    return {
        rejection.candidate.link.filename: rejection.rule.value for rejection in error.rejections
    }


# --- a page for each torch and CUDA ---------------------------------------------------------------


def test_mmcv_by_its_page(host):
    names = [
        "mmcv-2.1.0-cp310-cp310-manylinux1_x86_64.whl",
        "mmcv-2.2.0-cp310-cp310-manylinux1_x86_64.whl",
    ]
    host.add_anchors(f"{MMCV}/cu121/torch2.1.0/index.html", [f"./{name}" for name in names])
    pin = chosen("mmcv", linux("2.1.2+cu121"), finder(host))
    assert pin.link.url == f"{MMCV}/cu121/torch2.1.0/{names[1]}"
    assert (pin.built_for.torch, pin.built_for.accelerator) == ("2.1.0", "cu121")


def test_the_page_of_the_minor_leads_into_the_same_folder(host):
    name = "mmcv-2.1.0-cp310-cp310-manylinux1_x86_64.whl"
    host.add_anchors(f"{MMCV}/cu121/torch2.1/index.html", [f"../torch2.1.0/{name}"])
    pin = chosen("mmcv", linux("2.1.0+cu121"), finder(host))
    assert pin.link.url == f"{MMCV}/cu121/torch2.1.0/{name}"


def test_two_plus_in_a_name_are_read(host):
    name = "mmcv_full-1.3.1%2Btorch1.6.0%2Bcu101-cp36-cp36m-manylinux1_x86_64.whl"
    url = f"{MMCV}/1.3.1/torch1.6.0/cu101/{name}"
    host.add_anchors(
        f"{MMCV}/cu101/torch1.6.0/index.html", [f"../../1.3.1/torch1.6.0/cu101/{name}"]
    )
    pin = chosen("mmcv-full", linux("1.6.0+cu101", "3.6"), finder(host))
    assert pin.link.url == url
    assert str(pin.version) == "1.3.1+torch1.6.0.cu101"


def test_dgl_serves_the_patch_release_that_its_folder_means(host):
    name = "dgl-2.4.0%2Bcu124-cp311-cp311-manylinux1_x86_64.whl"
    host.add_anchors(f"{DGL}/torch-2.4/cu124/repo.html", [name])
    host.add_pypi_page("torchdata", {"torchdata-0.9.0-py3-none-any.whl": b"x"})
    pin = chosen("dgl", linux("2.4.0+cu124", "3.11"), finder(host))
    assert pin.link.url == f"{DGL}/torch-2.4/cu124/{name}"
    error = refused("dgl", linux("2.4.1+cu124", "3.11"), finder(host))
    assert rules_of(error)["dgl-2.4.0+cu124-cp311-cp311-manylinux1_x86_64.whl"] == "torch-version"
    assert "built for torch 2.4.0, and not for 2.4.1" in " ".join(
        r.detail for r in error.rejections
    )


def test_dgl_for_the_cpu_has_a_page_of_its_own(host):
    cpu, cuda = (
        "dgl-2.5.0-cp310-cp310-manylinux1_x86_64.whl",
        "dgl-2.5.0%2Bcu124-cp310-cp310-manylinux1_x86_64.whl",
    )
    host.add_anchors(f"{DGL}/torch-2.6/repo.html", [cpu])
    host.add_anchors(f"{DGL}/torch-2.6/cu124/repo.html", [cuda])
    host.add_pypi_page("torchdata", {"torchdata-0.9.0-py3-none-any.whl": b"x"})
    assert chosen("dgl", linux("2.6.0+cpu"), finder(host)).link.url == f"{DGL}/torch-2.6/{cpu}"
    assert (
        chosen("dgl", linux("2.6.0+cu124"), finder(host)).link.url
        == f"{DGL}/torch-2.6/cu124/{cuda}"
    )


def test_one_dgl_for_a_range_of_torches(host):
    name = "dgl-2.1.0%2Bcu121-cp310-cp310-manylinux1_x86_64.whl"
    host.add_anchors(f"{DGL}/cu121/repo.html", [name])
    host.add_pypi_page("torchdata", {"torchdata-0.9.0-py3-none-any.whl": b"x"})
    assert chosen("dgl", linux("2.1.2+cu121"), finder(host)).link.url == f"{DGL}/cu121/{name}"
    assert "torch-version" in rules_of(refused("dgl", linux("2.3.0+cu121"), finder(host))).values()


def test_pytorch3d_is_bound_to_the_patch_release(host):
    name = "pytorch3d-0.7.4-cp310-cp310-linux_x86_64.whl"
    folder = f"{FACEBOOK}/pytorch3d/packaging/wheels/py310_cu118_pyt201"
    host.add_anchors(f"{folder}/download.html", [name])
    pin = chosen("pytorch3d", linux("2.0.1+cu118"), finder(host))
    assert (pin.link.url, pin.built_for.torch) == (f"{folder}/{name}", "2.0.1")
    host.add_anchors(
        f"{folder.replace('pyt201', 'pyt200')}/download.html", [f"../py310_cu118_pyt201/{name}"]
    )
    assert (
        rules_of(refused("pytorch3d", linux("2.0.0+cu118"), finder(host)))[name] == "torch-version"
    )


def test_another_host_may_bind_the_same_project_to_the_minor(host):
    name = "pytorch3d-0.7.9+cu.12.8.torch.2.11-cp312-cp312-manylinux_2_24_x86_64.whl"
    host.add_astral_page("cu128", "pytorch3d", {name: b"w"})
    pin = chosen("pytorch3d", linux("2.11.1+cu128", "3.12"), finder(host))
    assert (pin.link.filename, pin.built_for.torch, bool(pin.link.sha256)) == (name, "2.11", True)


def test_detectron2_by_the_minor(host):
    name = "detectron2-0.6%2Bcu113-cp38-cp38-linux_x86_64.whl"
    folder = f"{FACEBOOK}/detectron2/wheels/cu113/torch1.10"
    host.add_anchors(f"{folder}/index.html", [name])
    assert (
        chosen("detectron2", linux("1.10.2+cu113", "3.8"), finder(host)).link.url
        == f"{folder}/{name}"
    )


def test_kaolins_page_says_what_its_names_do_not(host):
    name = "kaolin-0.17.0-cp310-cp310-linux_x86_64.whl"
    host.add_anchors(f"{KAOLIN}/torch-2.4.1_cu124.html", [f"torch-2.4.1_cu124/{name}"])
    pin = chosen("kaolin", linux("2.4.1+cu124"), finder(host))
    assert (pin.link.url, pin.built_for.torch) == (f"{KAOLIN}/torch-2.4.1_cu124/{name}", "2.4.1")


def test_nerfacc_from_its_bucket(host):
    name = "nerfacc-0.5.2%2Bpt20cu118-cp310-cp310-linux_x86_64.whl"
    host.add_anchors(f"{NERFACC}/torch-2.0.0_cu118.html", [f"torch-2.0.0_cu118/{name}"])
    assert (
        chosen("nerfacc", linux("2.0.0+cu118"), finder(host)).link.url
        == f"{NERFACC}/torch-2.0.0_cu118/{name}"
    )


# --- one page for all -----------------------------------------------------------------------------


def test_natten_has_every_wheel_on_one_page(host):
    torches = ["2120cu126", "2120cu130", "2130cu130", "2100cu130"]
    names = [f"natten-0.21.7%2Btorch{torch}-cp312-cp312-linux_x86_64.whl" for torch in torches]
    host.add_anchors("https://whl.natten.org", names)
    pin = chosen("natten", linux("2.12.1+cu130", "3.12"), finder(host))
    assert pin.link.url == f"https://whl.natten.org/{names[1]}"
    assert pin.built_for.torch == "2.12.0"


def test_k2_has_one_page_for_cuda(host):
    name = "k2-1.24.4.dev20250715%2Bcuda12.4.torch2.4.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"
    other = name.replace("torch2.4.0", "torch2.4.1")
    host.add_anchors("https://k2-fsa.github.io/k2/cuda.html", [f"{K2}/{name}", f"{K2}/{other}"])
    assert (
        chosen("k2", linux("2.4.1+cu124", "3.11"), finder(host), pre=True).link.url
        == f"{K2}/{other}"
    )


def test_gsplats_index_leads_to_github(host):
    url = "https://github.com/nerfstudio-project/gsplat/releases/download/v1.5.3/"
    name = "gsplat-1.5.3%2Bpt24cu124-cp310-cp310-linux_x86_64.whl"
    host.add_anchors(f"{GSPLAT}/pt24cu124/gsplat/", [url + name])
    assert chosen("gsplat", linux("2.4.1+cu124"), finder(host)).link.url == url + name


def test_a_pure_wheel_fits_every_torch(host):
    host.add_pypi_page("gsplat", {"gsplat-1.5.3-py3-none-any.whl": b"w"})
    pin = chosen("gsplat", linux("2.14.0+cu130", "3.12"), finder(host))
    assert pin.link.filename == "gsplat-1.5.3-py3-none-any.whl"


# --- releases on GitHub ---------------------------------------------------------------------------


def flash(version, torch, abi, *, cuda="cu12", python="cp311"):
    return (
        f"flash_attn-{version}+{cuda}torch{torch}cxx11abi{abi}-{python}-{python}-linux_x86_64.whl"
    )


@pytest.fixture
def flash_releases(host):
    files = {
        flash(version, torch, abi): f"{version}{torch}{abi}".encode()
        for version in ("2.8.3",)
        for torch in ("2.5", "2.8")
        for abi in ("TRUE", "FALSE")
    }
    host.add_release(FLASH_REPOSITORY, "v2.8.3", files)
    return host


@pytest.mark.parametrize(
    ("torch", "expected"),
    [
        ("2.5.1+cu124", flash("2.8.3", "2.5", "FALSE")),
        ("2.8.0+cu126", flash("2.8.3", "2.8", "TRUE")),
        ("2.8.0+cu129", flash("2.8.3", "2.8", "TRUE")),
    ],
)
def test_the_api_lists_what_fits_by_minor_cuda_major_and_abi(flash_releases, torch, expected):
    pin = chosen("flash-attn", linux(torch, "3.11"), finder(flash_releases))
    assert pin.link.url == f"{FLASH}/v2.8.3/{expected.replace('+', '%2B')}"
    assert len(pin.link.sha256) == 64
    assert pin.link.size > 0


def test_another_cuda_major_is_refused(flash_releases):
    error = refused("flash-attn", linux("2.8.0+cu130", "3.11"), finder(flash_releases))
    assert set(rules_of(error).values()) >= {"accelerator"}


def test_where_the_api_refuses_the_pages_of_the_releases_are_read(flash_releases):
    flash_releases.misbehave("/github-api/", "limit")
    resolution = choose("flash-attn", linux("2.8.0+cu126", "3.11"), finder(flash_releases))
    (pin,) = [pin for pin in resolution.pins if pin.name == "flash-attn"]
    assert pin.link.url == f"{FLASH}/v2.8.3/{flash('2.8.3', '2.8', 'TRUE').replace('+', '%2B')}"
    answer = resolution.answers[0]
    assert answer.kind is HostAnswerKind.LISTED
    assert "its limit of requests is reached until" in answer.detail
    assert flash_releases.asked("expanded_assets")


def test_a_limit_is_kept_to_by_the_next_process_too(flash_releases, tmp_path):
    flash_releases.misbehave("/github-api/", "limit")
    environment = linux("2.8.0+cu126", "3.11")
    choose("flash-attn", environment, finder(flash_releases, cache=tmp_path))
    asked = len(flash_releases.asked("/github-api/"))
    flash_releases.behave()
    choose("flash-attn", environment, finder(flash_releases, cache=tmp_path))
    assert asked == 1
    assert len(flash_releases.asked("/github-api/")) == 1


def test_the_token_goes_to_the_api_alone_and_pages_are_asked_with_conditions(
    flash_releases, tmp_path
):
    environment = linux("2.8.0+cu126", "3.11")
    for _ in range(2):
        choose(
            "flash-attn",
            environment,
            finder(flash_releases, cache=tmp_path, tokens={"api.github.com": "t0ken"}),
        )
    headers = [
        headers for path, headers in flash_releases.requests if path.startswith("/github-api/")
    ]
    assert [h.get("Authorization") for h in headers] == ["Bearer t0ken", "Bearer t0ken"]
    assert headers[0]["Accept"] == "application/vnd.github+json"
    assert "If-None-Match" not in headers[0]
    assert headers[1]["If-None-Match"]
    others = [
        headers for path, headers in flash_releases.requests if not path.startswith("/github-api/")
    ]
    assert not any("Authorization" in h for h in others)


def test_a_release_that_is_known_but_not_among_the_newest_is_asked_for(host):
    known = next(
        b for b in load_project("flash-attn").builds if b.version == "2.8.2" and b.torch == "2.6"
    )
    python = "cp" + known.python[0].replace(".", "")
    old = flash("2.8.2", "2.6", "FALSE", python=python)
    host.add_release(FLASH_REPOSITORY, "v2.8.2", {old: b"old"})
    host.add_release(FLASH_REPOSITORY, "v2.9.0", {flash("2.9.0", "2.20", "TRUE"): b"new"})
    api = host.path_of(f"https://api.github.com/repos/{FLASH_REPOSITORY}/releases")
    newest = host.answers[
        host.path_of(f"https://api.github.com/repos/{FLASH_REPOSITORY}/releases/tags/v2.9.0")
    ]
    host.put(api, b"[" + newest.body + b"]", content_type="application/json")
    pin = chosen("flash-attn==2.8.2", linux("2.6.0+cu124", known.python[0]), finder(host))
    assert pin.link.filename == old


def test_files_of_another_repository_in_an_answer_are_not_believed(host):
    host.add_release(FLASH_REPOSITORY, "v2.8.3", {flash("2.8.3", "2.8", "TRUE"): b"w"})
    api = host.path_of(f"https://api.github.com/repos/{FLASH_REPOSITORY}/releases")
    body = host.answers[api].body.replace(
        b"Dao-AILab/flash-attention/releases/download", b"evil/x/releases/download"
    )
    host.put(api, body, content_type="application/json")
    error = refused("flash-attn", linux("2.8.0+cu126", "3.11"), finder(host))
    assert not [r for r in error.rejections if "evil" in r.candidate.link.url]


def test_somebody_elses_builds_are_asked_only_when_named(host):
    name = "flash_attn-2.8.3+cu130torch2.11-cp312-cp312-linux_x86_64.whl"
    repository = "mjun0812/flash-attention-prebuild-wheels"
    host.add_release(repository, "v0.9.6", {name: b"w"})
    environment = linux("2.11.0+cu130", "3.12")
    error = refused("flash-attn", environment, finder(host))
    assert "--third-party HOST: github.com/mjun0812" in error.message
    assert not host.asked("mjun0812")
    for named in ("mjun0812", repository, f"github.com/{repository}"):
        pin = chosen(
            "flash-attn", environment, finder(host, third_party=[named]), allow_build=False
        )
        assert pin.link.filename == name


@pytest.mark.parametrize(
    "junk", ["", "[", "{}", "[1, null, {}]", '[{"assets": 5}]', '[{"assets": [{}]}]', "[" * 5000]
)
def test_a_broken_answer_of_the_api_is_no_end(flash_releases, junk):
    api = flash_releases.path_of(f"https://api.github.com/repos/{FLASH_REPOSITORY}/releases")
    flash_releases.put(api, junk.encode() or b" ", content_type="application/json")
    pin = chosen("flash-attn", linux("2.8.0+cu126", "3.11"), finder(flash_releases))
    assert pin.link.filename == flash("2.8.3", "2.8", "TRUE")


# --- what a host does when it fails ---------------------------------------------------------------

FIRST = "torch_scatter-2.1.2+pt25cu124-cp311-cp311-linux_x86_64.whl"
SECOND = "torch_scatter-2.1.2+cu.12.4.torch.2.5-cp311-cp311-manylinux_2_24_x86_64.whl"
FAULTS = {
    "hang": (HostAnswerKind.DOWN, "no answer in time"),
    "close": (HostAnswerKind.DOWN, "closed the connection"),
    "403": (HostAnswerKind.PAGE_MISSING, "403"),
    "404": (HostAnswerKind.PAGE_MISSING, "404"),
    "500": (HostAnswerKind.DOWN, "500"),
    "503": (HostAnswerKind.DOWN, "503"),
    "empty": (HostAnswerKind.PAGE_EMPTY, "without content"),
    "truncated": (HostAnswerKind.DOWN, "broke off"),
    "redirect https://elsewhere.example{path}": (
        HostAnswerKind.DOWN,
        "redirects to elsewhere.example",
    ),
    "redirect http://data.pyg.org{path}": (HostAnswerKind.DOWN, "http"),
    "limit": (HostAnswerKind.DOWN, "limit of requests"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_the_next_host_is_asked_and_what_happened_where_is_said(host, fault):
    host.add_pyg_page("2.5.1", "cu124", {FIRST: b"1"}, base="2.5.0")
    host.add_astral_page("cu124", "torch-scatter", {SECOND: b"2"})
    host.misbehave("/pyg/", fault)
    resolution = choose("torch-scatter", linux("2.5.1+cu124", "3.11"), finder(host))
    assert resolution.pins[0].link.filename == SECOND
    kind, words = FAULTS[fault]
    answer = next(answer for answer in resolution.answers if answer.host == "data.pyg.org")
    assert answer.kind is kind
    assert words in answer.detail
    assert answer.url.startswith("https://data.pyg.org/whl/torch-2.5.")


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_where_no_host_answers_the_message_says_so_of_each(host, fault):
    host.add_pyg_page("2.13.0", "cu130", {FIRST: b"1"})
    host.add_astral_page("cu130", "torch-scatter", {SECOND: b"2"})
    host.add_pypi_page("torch-scatter", {"torch_scatter-2.1.2.tar.gz": b"3"})
    for part in ("/pyg/", "/astral/", "/pypi/"):
        host.misbehave(part, fault)
    error = refused("torch-scatter==2.1.2", linux("2.13.0+cu130", "3.11"), finder(host))
    for name in ("data.pyg.org", "wheels.astral.sh", "pypi.org"):
        assert name in error.message
    assert FAULTS[fault][1].split()[0] in error.message


def test_a_page_with_a_million_links_ends_soon(host):
    line = '<a href="torch-2.5.0%2Bcu124/torch_cluster-1.6.{0}%2Bpt25cu124-cp311-cp311-linux_x86_64.whl">x</a><br/>\n'
    page = (
        "".join(line.format(number % 10) for number in range(1_000_000))
        + f'<a href="torch-2.5.0%2Bcu124/{FIRST}">x</a>'
    )
    host.put("/pyg/whl/torch-2.5.1+cu124.html", page.encode(), content_type="text/html")
    host.add_astral_page("cu124", "torch-scatter", {SECOND: b"2"})
    started = time.process_time()
    rules = parse_mirrors(host.mirrors)
    resolution = choose(
        "torch-scatter",
        linux("2.5.1+cu124", "3.11"),
        Finder(catalog=bundled_catalog(), http=HttpClient(mirrors=rules)),
    )
    assert resolution.pins[0].link.filename == SECOND
    answer = next(answer for answer in resolution.answers if answer.host == "data.pyg.org")
    assert answer.kind is HostAnswerKind.DOWN
    assert "larger than 64 MiB" in answer.detail
    assert time.process_time() - started < 20


def test_a_long_page_of_other_projects_costs_little(host):
    line = '<a href="torch-2.5.0%2Bcu124/torch_cluster-1.6.{0}%2Bpt25cu124-cp311-cp311-linux_x86_64.whl">x</a><br/>\n'
    page = (
        "".join(line.format(number) for number in range(100_000))
        + f'<a href="torch-2.5.0%2Bcu124/{FIRST}">x</a>'
    )
    host.put("/pyg/whl/torch-2.5.1+cu124.html", page.encode(), content_type="text/html")
    started = time.process_time()
    pin = chosen("torch-scatter", linux("2.5.1+cu124", "3.11"), finder(host))
    assert pin.link.filename == FIRST
    assert time.process_time() - started < 10


# --- which of several -----------------------------------------------------------------------------


def test_versions_are_not_chosen_by_their_local_part(host):
    """As text, torch.2.9 stands above torch.2.14 and pt29 above pt213; pip takes the highest."""
    names = [
        f"torch_scatter-2.1.2+cu.12.8.torch.{minor}-cp312-cp312-manylinux_2_24_x86_64.whl"
        for minor in ("2.9", "2.10", "2.11", "2.14")
    ]
    host.add_astral_page("cu128", "torch-scatter", {name: name.encode() for name in names})
    assert (
        chosen("torch-scatter", linux("2.10.0+cu128", "3.12"), finder(host)).link.filename
        == names[1]
    )


def test_the_exact_cuda_comes_before_its_major(host):
    major = flash("2.8.3", "2.8", "TRUE")
    host.add_release(FLASH_REPOSITORY, "v2.8.3", {major: b"1"})
    exact = "flash_attn-2.8.3+cu.12.6.torch.2.8-cp311-cp311-manylinux_2_24_x86_64.whl"
    host.add_astral_page("cu126", "flash-attn", {exact: b"2"})
    asked = finder(host)
    # Asked for together, the exact one wins; an earlier host that has one that fits ends the
    # search.
    found = asked.find(
        "flash-attn", linux("2.8.0+cu126", "3.11"), wanted=lambda candidate, project: False
    )
    resolution = resolve(
        [Requirement("flash-attn")],
        linux("2.8.0+cu126", "3.11"),
        find=lambda *args, **options: found,
        catalog=bundled_catalog(),
    )
    assert next(pin for pin in resolution.pins if pin.name == "flash-attn").link.filename == exact


def test_a_build_of_the_cpu_is_taken_beside_cuda_only_when_it_is_written(host):
    cpu = "torch_scatter-2.1.2+pt25cpu-cp311-cp311-linux_x86_64.whl"
    host.add_pyg_page("2.5.1", "cpu", {cpu: b"1"}, base="2.5.0")
    environment = linux("2.5.1+cu124", "3.11")
    with pytest.raises(NoCandidate):
        choose("torch-scatter", environment, finder(host), allow_build=False)
    assert chosen("torch-scatter==2.1.2+pt25cpu", environment, finder(host)).link.filename == cpu


@pytest.mark.parametrize(
    ("platform", "tag", "fits"),
    [
        ("manylinux_2_36_x86_64", "manylinux_2_28_x86_64", True),
        ("manylinux_2_27_x86_64", "manylinux_2_28_x86_64", False),
        ("manylinux_2_36_aarch64", "manylinux_2_28_aarch64", True),
        ("manylinux_2_36_aarch64", "manylinux_2_28_x86_64", False),
        ("manylinux_2_36_x86_64", "linux_x86_64", True),
        ("win_amd64", "win_amd64", True),
        ("win_amd64", "linux_x86_64", False),
        ("musllinux_1_2_x86_64", "linux_x86_64", False),
    ],
)
def test_the_machine(host, platform, tag, fits):
    name = f"pyg_lib-0.9.0+pt212cu130-cp310-abi3-{tag}.whl"
    host.add_pyg_page("2.12.0", "cu130", {name: b"1"})
    environment = linux("2.12.0+cu130", "3.12", platform)
    if fits:
        assert chosen("pyg-lib", environment, finder(host)).link.filename == name
    else:
        assert rules_of(refused("pyg-lib", environment, finder(host)))[name] in ("platform", "libc")


def test_macos_has_one_build_of_everything(host):
    name = "torch_scatter-2.1.2-cp311-cp311-macosx_10_9_universal2.whl"
    host.add_pyg_page("2.5.1", "cpu", {name: b"1"}, base="2.5.0")
    environment = linux("2.5.1", "3.11", "macosx_14_0_arm64")
    assert chosen("torch-scatter", environment, finder(host)).link.filename == name


def test_the_stable_abi_is_bound_below_and_to_the_cuda_major(host):
    name = "torchvision-0.29.2-py3-none-manylinux_2_28_x86_64.whl"
    host.add_pypi_page("torchvision", {name: b"1"})
    assert chosen("torchvision", linux("2.14.1+cu130", "3.12"), finder(host)).link.filename == name
    assert chosen("torchvision", linux("2.15.0+cu132", "3.12"), finder(host)).link.filename == name
    assert (
        rules_of(refused("torchvision", linux("2.13.0+cu130", "3.12"), finder(host)))[name]
        == "torch-version"
    )
    assert (
        rules_of(refused("torchvision", linux("2.14.1+cu126", "3.12"), finder(host)))[name]
        == "accelerator"
    )
    assert (
        rules_of(refused("torchvision", linux("2.14.1+cpu", "3.12"), finder(host)))[name]
        == "accelerator"
    )


@pytest.mark.parametrize(
    ("gpus", "declared", "fits"),
    [
        (("9.0",), True, True),
        (("8.0",), True, False),
        (("9.0", "8.0"), True, False),
        (("9.0", "8.0"), False, True),  # one of those that are here is enough
        (("10.0",), False, False),
        ((), False, True),  # nothing to judge by
    ],
)
def test_the_gpu_where_it_is_known_what_a_wheel_has(host, gpus, declared, fits):
    name = "flash_attn_3-3.0.0b1+cu.12.8.torch.2.8-cp39-abi3-manylinux_2_24_x86_64.whl"
    host.add_astral_page("cu128", "flash-attn-3", {name: b"1"})
    driver = Driver(
        "580.65.06", "13.0", tuple(Device("GPU", gpu) for gpu in gpus), declared=declared
    )
    environment = dataclasses.replace(linux("2.8.0+cu128", "3.11"), driver=driver)
    if fits:
        assert chosen("flash-attn-3", environment, finder(host), pre=True).link.filename == name
    else:
        error = refused("flash-attn-3", environment, finder(host), pre=True)
        assert rules_of(error)[name] == "gpu-code"


# --- names that lead astray -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("apex", ["Pyramid", "git+https://github.com/NVIDIA/apex"]),
        ("minkowskiengine", ["github.com/NVIDIA/MinkowskiEngine"]),
        ("torchsparse", ["github.com/mit-han-lab/torchsparse"]),
        ("nvdiffrast", ["github.com/NVlabs/nvdiffrast"]),
        ("tinycudann", ["github.com/NVlabs/tiny-cuda-nn"]),
        ("torchtriton", ["triton"]),
        ("pytorch", ["torch"]),
        ("cupy-cuda11x", ["cupy-cuda12x is the name of it for cu126"]),
        ("spconv-cu113", ["spconv-cu126 is the name of it for cu126"]),
    ],
)
def test_who_is_led_astray_by_a_name_is_told(host, text, words):
    host.add_pypi_page("apex", {"apex-0.9.10.dev0.tar.gz": b"pyramid"})
    host.add_pypi_page("pytorch", {"pytorch-1.0.2.tar.gz": b"placeholder"})
    host.add_pypi_page(
        "cupy-cuda11x", {"cupy_cuda11x-13.6.0-cp311-cp311-manylinux2014_x86_64.whl": b"w"}
    )
    host.add_pypi_page(
        "spconv-cu113", {"spconv_cu113-2.3.6-cp311-cp311-manylinux2014_x86_64.whl": b"w"}
    )
    error = refused(text, linux("2.8.0+cu126", "3.11"), finder(host))
    for word in words:
        assert word in f"{error.message}\n{error.hint}"
    assert not [r for r in error.rejections if r.candidate.name in ("apex", "pytorch")]


def test_a_name_with_cuda_in_it_is_taken_at_its_word_beside_a_cpu_torch(host):
    name = "cupy_cuda12x-14.1.1-cp311-cp311-manylinux2014_x86_64.whl"
    host.add_pypi_page("cupy-cuda12x", {name: b"w"})
    assert chosen("cupy-cuda12x", linux("2.8.0+cpu", "3.11"), finder(host)).link.filename == name
    assert chosen("cupy-cuda12x", linux("2.8.0+cu129", "3.11"), finder(host)).link.filename == name


# --- mirrors by name ------------------------------------------------------------------------------


@pytest.fixture
def mirror():
    with WheelHost() as running:
        yield running


def mirrored(host, mirror, name):
    """The mirror of that name, standing on this machine."""
    rules = [
        dataclasses.replace(rule, replacement=f"{mirror.url}/{name}")
        for rule in named_mirrors()[name]
    ]
    return Finder(
        catalog=bundled_catalog(),
        http=HttpClient(mirrors=(*rules, *parse_mirrors(host.mirrors)), timeout=1.0),
    )


VISION = "torchvision-0.20.1+cu124-cp311-cp311-linux_x86_64.whl"


@pytest.mark.parametrize("name", ["sjtu", "nju"])
def test_a_mirror_with_the_same_layout(host, mirror, name):
    host.misbehave("/pytorch/", "500")
    href = f"/whl/cu124/{VISION.replace('+', '%2B')}#sha256={'0' * 64}"
    body = f'<a href="{href}">{VISION}</a><br/>'
    mirror.put(f"/{name}/cu124/torchvision/", body.encode(), content_type="text/html")
    pin = chosen("torchvision", linux("2.5.1+cu124", "3.11"), mirrored(host, mirror, name))
    # The address stays the original's: what is known about it, and what was seen of it before,
    # holds on.
    assert pin.link.url == f"https://download.pytorch.org/whl/cu124/{VISION.replace('+', '%2B')}"


def test_a_flat_mirror(host, mirror):
    host.misbehave("/pytorch/", "500")
    rows = [
        f'<a href="{name.replace("+", "&#43;")}">{name}</a>'
        for name in (VISION, "torch-2.5.1+cu124-cp311-cp311-linux_x86_64.whl")
    ]
    mirror.put("/aliyun/cu124/", "\n".join(rows).encode(), content_type="text/html")
    found_by = mirrored(host, mirror, "aliyun")
    pin = chosen("torchvision", linux("2.5.1+cu124", "3.11"), found_by)
    assert pin.link.url == f"https://download.pytorch.org/whl/cu124/{VISION}"
    assert pin.kind is CandidateKind.WHEEL
    assert mirror.asked("/aliyun/") == ["/aliyun/cu124/"]


def test_a_proxy_for_github_takes_the_whole_address(flash_releases):
    rules = parse_mirrors("https://github.com=https://proxy.example/https://github.com")
    asset = f"{FLASH}/v2.8.3/x.whl"
    assert apply_mirrors(asset, rules) == f"https://proxy.example/{asset}"
    assert apply_mirrors("https://api.github.com/repos", rules) == "https://api.github.com/repos"
    assert (
        apply_mirrors(asset, parse_mirrors("ghfast", named_mirrors()))
        == f"https://ghfast.top/{asset}"
    )


# --- versions that are newer than the index -------------------------------------------------------

NEW = "torchvision-9.0.0+cu130-cp312-cp312-manylinux_2_28_x86_64.whl"


def metadata(pin):
    return f"Metadata-Version: 2.1\nName: torchvision\nVersion: 9.0.0+cu130\nRequires-Dist: numpy\n{pin}\n\nText: torch"


@pytest.mark.parametrize(
    ("pin", "fits"),
    [
        ("Requires-Dist: torch==2.99.0", True),
        ("Requires-Dist: torch (==2.99.0)", True),
        ("Requires-Dist: torch==2.98.0", False),
        ("Requires-Dist: torch>=2.14", True),
        ("Requires-Dist: torch", False),  # says nothing: not known here
        ("Requires-Dist: torch ==", False),
    ],
)
def test_a_version_that_the_index_does_not_know_says_which_torch_it_wants(host, pin, fits):
    host.add_pytorch_page("cu130", "torchvision", {NEW: b"w"}, metadata=metadata(pin))
    environment = linux("2.99.0+cu130", "3.12")
    if fits:
        assert chosen("torchvision", environment, finder(host)).link.filename == NEW
    else:
        assert rules_of(refused("torchvision", environment, finder(host)))[NEW] == "torch-version"


def test_metadata_that_is_not_what_its_page_promises_is_not_believed(host):
    host.add_pytorch_page(
        "cu130", "torchvision", {NEW: b"w"}, metadata=metadata("Requires-Dist: torch==2.99.0")
    )
    host.put(
        f"/pytorch/whl/cu130/{NEW}.metadata", metadata("Requires-Dist: torch==2.99.0 ").encode()
    )
    error = refused("torchvision", linux("2.99.0+cu130", "3.12"), finder(host))
    assert rules_of(error)[NEW] == "torch-version"


def test_a_new_version_without_a_tag_is_for_the_torch_without_one(host):
    name = NEW.replace("+cu130", "")
    text = metadata("Requires-Dist: torch==2.99.0")
    host.put("/files/packages/x/" + name + ".metadata", text.encode())
    page = f'<a href="https://files.pythonhosted.org/packages/x/{name}" data-core-metadata="true">{name}</a>'
    host.put("/pypi/simple/torchvision/", page.encode(), content_type="text/html")
    plain = linux("2.99.0", "3.12")
    torch = dataclasses.replace(
        plain.torch, runtime_version="2.99.0+cu140", accelerator="cu140", cuda="14.0"
    )
    untagged = dataclasses.replace(plain, torch=torch)
    assert chosen("torchvision", untagged, finder(host)).link.filename == name
    tagged = linux("2.99.0+cu140", "3.12")
    assert rules_of(refused("torchvision", tagged, finder(host)))[name] == "accelerator"


# --- a build for the CPU beside a torch for a GPU -------------------------------------------------


def codec(version, platform="x86_64"):
    return f"torchcodec-{version}-cp311-cp311-manylinux_2_28_{platform}.whl"


def torch_for(accelerator, torch="2.9.1", platform="manylinux_2_36_x86_64"):
    return linux(f"{torch}+{accelerator}", "3.11", platform)


@pytest.mark.parametrize("accelerator", ["cu128", "cu130", "rocm6.4", "cpu"])
def test_the_decoder_for_the_cpu_fits_every_torch(host, accelerator):
    host.add_pypi_page(
        "torchcodec", {codec("0.9.1"): b"1", codec("0.8.0"): b"2", codec("0.10.0"): b"3"}
    )
    environment = torch_for(accelerator)
    resolution = choose("torchcodec", environment, finder(host))
    assert [pin.link.filename for pin in resolution.pins] == [codec("0.9.1")]
    notes = cpu_fallback_notes(resolution.pins, resolution.answers, environment)
    assert [note.subject for note in notes] == ([] if accelerator == "cpu" else ["torchcodec"])


@pytest.mark.parametrize("version", ["0.9.1", "0.9.0"])
def test_a_decoder_for_the_gpu_goes_first(host, version):
    """Also where the package index has a newer one for the CPU."""
    exact = codec(f"{version}+cu128")
    host.add_pytorch_page("cu128", "torchcodec", {exact: b"1"})
    host.add_pypi_page("torchcodec", {codec("0.9.1"): b"2"})
    environment = torch_for("cu128")
    resolution = choose("torchcodec", environment, finder(host))
    assert [pin.link.filename for pin in resolution.pins] == [exact]
    assert cpu_fallback_notes(resolution.pins, resolution.answers, environment) == ()
    candidates = finder(host).find("torchcodec", environment, wanted=lambda *_: False).candidates
    context = Context(load_project("torchcodec"), environment, bundled_catalog(), SpecifierSet(""))
    ranked = [candidate.link.filename for candidate in rank_fitting(candidates, context)]
    assert ranked == [exact, codec("0.9.1")], "even where both were asked"


def test_the_note_says_which_host_was_silent(host):
    host.add_pypi_page("torchcodec", {codec("0.9.1"): b"1"})
    host.misbehave("/pytorch/", "500")
    environment = torch_for("cu128")
    resolution = choose("torchcodec", environment, finder(host))
    (note,) = cpu_fallback_notes(resolution.pins, resolution.answers, environment)
    assert "torchcodec 0.9.1 is a CPU build beside torch 2.9.1+cu128" in note.detail
    assert "download.pytorch.org" in note.hint


@pytest.mark.parametrize(
    ("version", "torch", "platform", "fits"),
    [
        ("0.17.0", "2.15.0+cu132", "x86_64", True),  # libcudart.so.13: every CUDA 13
        ("0.17.0", "2.15.0+cu130", "aarch64", True),
        ("0.17.0", "2.14.1+cu126", "x86_64", False),
        ("0.17.0", "2.14.1+cpu", "x86_64", False),
        ("0.13.0", "2.14.1+cu126", "x86_64", True),  # for the CPU
        ("0.13.0", "2.14.1+cpu", "aarch64", False),  # for CUDA 13, as measured
        ("0.13.0", "2.14.1+cu130", "aarch64", True),
    ],
)
def test_what_the_decoders_on_the_package_index_are_built_for(host, version, torch, platform, fits):
    host.add_pypi_page("torchcodec", {codec(version, platform): b"1"})
    environment = linux(torch, "3.11", f"manylinux_2_36_{platform}")
    if fits:
        assert chosen("torchcodec", environment, finder(host)).link.filename == codec(
            version, platform
        )
    else:
        assert (
            rules_of(refused("torchcodec", environment, finder(host)))[codec(version, platform)]
            == "accelerator"
        )


def test_torchvision_for_the_cpu_does_not_fit_beside_cuda(host):
    """Its operators would be missing on the GPU."""
    name = "torchvision-0.24.1+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"
    host.add_pytorch_page("cu128", "torchvision", {name: b"1"})
    assert rules_of(refused("torchvision", torch_for("cu128"), finder(host)))[name] == "accelerator"
