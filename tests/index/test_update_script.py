"""Renewing the documents of the wheel index: what was listed replaces, what was not takes nothing
away."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import shutil
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest

from safe_install.index.bundled import make_candidate
from safe_install.index.catalog import TABLES, load_project, torch_table
from safe_install.index.document import build_order, parse_project, render_document
from safe_install.index.facts import Doubt
from safe_install.index.filename import build_filename
from safe_install.models import Link
from tests import wheelhost
from tests.choice import long_unless
from tests.scripts import load_script
from tests.wheelhost import WheelHost

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "wheel_index"
script = load_script("update_wheel_index")
asking = load_script("wheel_index_update.asking")
cells_of = load_script("wheel_index_update.cells").cells_of
package_index = load_script("wheel_index_update.package_index")

TODAY = datetime.date.today().isoformat()
PAGE = "/pyg/whl/torch-1.8.0+cu111.html"
GONE = "torch_scatter-2.0.8-cp36-cp36m-linux_x86_64.whl"
NEW = "torch_scatter-2.0.9-cp39-cp39-linux_x86_64.whl"
SCATTER = ["--host", "data.pyg.org", "torch-scatter"]


class _Paged(wheelhost._Handler):
    """GitHub counts its pages: behind the first one there is nothing."""

    def do_GET(self):
        if "page=" in urlsplit(self.path).query.replace("per_page=", ""):
            self._send(200, b"[\n\n]\n", "application/json", {})
        else:
            super().do_GET()


@pytest.fixture
def host(monkeypatch):
    with WheelHost() as running:
        running._server.RequestHandlerClass = _Paged
        monkeypatch.setenv("SAFE_INSTALL_MIRRORS", running.mirrors)
        for name in ("GITHUB_TOKEN", "GH_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield running


@pytest.fixture
def whole(tmp_path):
    for name in ("torch", "torch-scatter", "torchvision"):
        shutil.copy(FOLDER / f"{name}.json", tmp_path)
    return tmp_path


@pytest.fixture
def folder(whole):
    """The same with a few releases of torch: each page that is asked takes its time."""
    few = ("1.8.0", "1.8.1", "2.8.0", "2.9.0", "2.15.0")

    def change(document):
        for key in {"builds", "releases"} & set(document):
            document[key] = [row for row in document[key] if row["torch"] in few]

    rewrite(whole, "torch-scatter", change)
    rewrite(whole, "torch", change)
    return whole


def run(folder, *arguments):
    return script.main(["--folder", str(folder), *arguments])


def text_of(folder, name="torch-scatter"):
    return (folder / f"{name}.json").read_text("utf-8")


def project_of(folder, name="torch-scatter"):
    return parse_project(json.loads(text_of(folder, name)), name)


def rewrite(folder, name, change):
    """The document with something else in it, canonical again."""
    document = json.loads(text_of(folder, name))
    change(document)
    (folder / f"{name}.json").write_text(render_document(document), "utf-8")


def without_macos(document):
    """No template makes the name of a `macos` row: it is only on the live page, and so no page can
    be made from it."""
    document["builds"] = [row for row in document["builds"] if row["platform"] != "macos"]


def without_rows_of(name):
    def change(document):
        document["builds"] = [row for row in document["builds"] if row["host"] != name]

    return change


def wheels_of(project, host_name):
    """(cell, address) of every wheel that the rows of a host say."""
    host = next(host for host in project.hosts if host.host == host_name)
    for build in project.builds:
        if build.host != host_name or build.platform == "macos":
            continue
        for cell in cells_of(build):
            abi = cell.cxx11_abi[0] if cell.cxx11_abi else None
            words = {
                "accelerator": cell.accelerators[0],
                "python": cell.python[0],
                "cxx11_abi": abi,
            }
            yield cell, make_candidate(project, host, cell, **words).link.url


def cells(project, host_name):
    return {cell for build in project.builds if build.host == host_name for cell in cells_of(build)}


def put_page(host, path, hrefs, around=""):
    body = "".join(f'<a href="{href}">{href}</a><br/>\n' for href in hrefs)
    host.put(path, f"<html><body>{around}{body}</body></html>".encode(), content_type="text/html")


def put_pyg(host, project):
    """The pages of data.pyg.org with every wheel of the rows."""
    pages = {}
    for cell, url in wheels_of(project, "data.pyg.org"):
        page = f"/pyg/whl/torch-{cell.torch}+{cell.accelerators[0]}.html"
        pages.setdefault(page, []).append(url.partition("/whl/")[2])
    for page, hrefs in pages.items():
        put_page(host, page, hrefs)
    return pages


def put_releases(host, repository, urls, sha256=None):
    """GitHub's answer with every file in the release that its address names."""
    releases = {}
    for url in urls:
        _, _, place = unquote(url).partition("/releases/download/")
        asset = {"browser_download_url": url, "size": 3}
        if url in (sha256 or {}):
            asset["digest"] = f"sha256:{sha256[url]}"
        releases.setdefault(place.split("/")[0], []).append(asset)
    answer = [
        {"tag_name": tag, "draft": False, "assets": assets} for tag, assets in releases.items()
    ]
    path = f"/github-api/repos/{repository}/releases"
    host.put(path, json.dumps(answer).encode(), content_type="application/json")


def put_the_page_of_the_founding_case(host, project):
    """The page of torch 1.8.0+cu111 with one wheel less and one more."""
    names = [
        url.rsplit("/", 1)[-1]
        for cell, url in wheels_of(project, "data.pyg.org")
        if (cell.torch, cell.accelerators) == ("1.8.0", ("cu111",))
    ]
    assert GONE in names
    assert NEW not in names
    put_page(host, PAGE, [f"torch-1.8.0%2Bcu111/{name}" for name in [*names, NEW] if name != GONE])


# --- what changed ---


def test_one_new_and_one_gone_wheel_are_the_difference(host, folder, capsys):
    before = project_of(folder)
    put_the_page_of_the_founding_case(host, before)
    assert run(folder, "--write", *SCATTER) == 1
    out, err = capsys.readouterr()

    after = project_of(folder)
    old, new = cells(before, "data.pyg.org"), cells(after, "data.pyg.org")
    assert [(c.version, c.accelerators, c.python, c.platform) for c in old - new] == [
        ("2.0.8", ("cu111",), ("3.6",), "linux_x86_64")
    ]
    assert [
        (c.torch, c.version, c.accelerators, c.python, c.platform, c.filename) for c in new - old
    ] == [("1.8.0", "2.0.9", ("cu111",), ("3.9",), "linux_x86_64", "plain")]
    lines = [
        line for line in out.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    assert [line[0] for line in lines] == ["-", "+", "+", "+", "-", "+"]
    assert all('"2.0.8"' in line or '"2.0.9"' in line for line in lines[:4])
    assert lines[4:] == [f'-  "checked": "{before.checked}",', f'+  "checked": "{TODAY}",']

    text = text_of(folder)
    assert render_document(json.loads(text)) == text
    assert list(after.builds) == sorted(after.builds, key=build_order)
    assert after.doubts == before.doubts
    assert after.sources == before.sources
    assert "the doubt about '2.0.9 for torch 1.8.0' may be answered now" in err
    assert "data.pyg.org: 1 wheels are new" not in err
    assert "1 wheels are new, 1 gone" in err

    assert run(folder, "--write", *SCATTER) == 0
    assert capsys.readouterr().out == ""
    assert text_of(folder) == text


def test_without_write_nothing_is_written(host, folder, capsys):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    put_the_page_of_the_founding_case(host, project_of(folder))
    assert run(folder, *SCATTER) == 1
    assert "+++ b/torch-scatter.json" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_exact_name_takes_the_place_of_a_macos_row(host, folder):
    name = "torch_scatter-2.0.8-cp38-cp38-macosx_10_15_x86_64.whl"
    put_page(host, "/pyg/whl/torch-1.8.0+cpu.html", [f"torch-1.8.0%2Bcpu/{name}"])
    assert run(folder, "--write", *SCATTER) == 1
    rows = [
        build
        for build in project_of(folder).builds
        if build.torch == "1.8.0" and "mac" in build.platform
    ]
    assert [(b.version, b.platform, b.python, b.filename) for b in rows] == [
        ("2.0.8", "macosx_10_15_x86_64", ("3.8",), None)
    ]


def test_a_later_patch_of_torch_shows_the_wheels_of_the_first(host, folder):
    """torch-1.8.1+cu111.html lists what lies in torch-1.8.0+cu111; that page alone says nothing is
    gone."""
    put_page(host, "/pyg/whl/torch-1.8.1+cu111.html", [f"torch-1.8.0%2Bcu111/{NEW}"])
    before = cells(project_of(folder), "data.pyg.org")
    assert run(folder, "--write", *SCATTER) == 1
    after = cells(project_of(folder), "data.pyg.org")
    assert before < after
    assert [(c.torch, c.version) for c in after - before] == [("1.8.0", "2.0.9")]


def test_a_row_keeps_its_note(host, folder):
    project = project_of(folder)
    row = next(
        b
        for b in project.builds
        if b.host == "data.pyg.org" and b.note and b.platform == "win_amd64"
    )
    entry = project.hosts[0]
    files = [
        build_filename(project.name, row, entry, accelerator="cu126", python=python)
        for python in row.python
    ]
    files.append(files[-1].replace("cp314", "cp315").replace("cp312", "cp313"))
    folder_name = f"torch-{row.torch}%2Bcu126"
    put_page(
        host,
        f"/pyg/whl/{unquote(folder_name)}.html",
        [f"{folder_name}/{quote(name)}" for name in files],
    )
    assert run(folder, "--write", *SCATTER) == 1
    found = [
        b for b in project_of(folder).builds if (b.torch, b.platform) == (row.torch, "win_amd64")
    ]
    assert {b.note for b in found} == {row.note}
    assert len([p for b in found if "cu126" in b.accelerators for p in b.python]) == len(files)


# --- what did not change ---


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("500", "host-down"),
        pytest.param("close", "host-down", marks=pytest.mark.long),
        pytest.param("truncated", "host-down", marks=pytest.mark.long),
        ("404", "missing"),
        pytest.param("empty", "page-empty", marks=pytest.mark.long),
        ("notice", "page-empty"),
        pytest.param("stopped", "host-down", marks=pytest.mark.long),
    ],
)
def test_a_host_that_does_not_list_takes_nothing_away(host, folder, capsys, fault, said):
    put_the_page_of_the_founding_case(host, project_of(folder))
    before = text_of(folder)
    if fault == "notice":
        host.put(
            PAGE, b"<html><body><p>We are back soon. <a href='/status'>Status</a></p></body></html>"
        )
    elif fault == "stopped":
        host.stop()
    else:
        host.misbehave("/pyg/", fault)
    assert run(folder, "--write", *SCATTER) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert text_of(folder) == before
    assert (
        f"torch-scatter: data.pyg.org: {err.partition('data.pyg.org: ')[2].splitlines()[0]}" in err
    )
    assert said in err
    assert "left as they are" in err


def test_a_page_that_fails_does_not_hide_what_another_listed(host, folder):
    """The page of the CPU is down: its rows stay, those of cu111 are replaced."""
    put_the_page_of_the_founding_case(host, project_of(folder))
    host.misbehave("+cpu.html", "500")
    before = cells(project_of(folder), "data.pyg.org")
    assert run(folder, "--write", *SCATTER) == 1
    after = cells(project_of(folder), "data.pyg.org")
    assert {cell.accelerators for cell in before ^ after} == {("cu111",)}


def test_a_host_that_is_down_is_not_asked_for_every_page(host, folder):
    host.misbehave("/pyg/", "500")
    run(folder, *SCATTER)
    assert len(host.asked("/pyg/")) == asking.PATIENCE


@pytest.mark.long
def test_all_rows_of_torch_scatter_come_back(host, whole, capsys):
    rewrite(whole, "torch-scatter", without_macos)
    before = text_of(whole)
    put_pyg(host, project_of(whole))
    assert run(whole, "--write", *SCATTER) == 0, capsys.readouterr().out
    assert text_of(whole) == before
    assert "0 wheels are new, 0 gone" in capsys.readouterr().err
    assert len(host.asked("/pyg/")) == len(set(host.asked("/pyg/")))


def test_all_rows_of_torch_scatter_are_read_from_the_pages_alone(host, whole):
    rewrite(whole, "torch-scatter", without_macos)
    project = project_of(whole)
    pages = put_pyg(host, project)
    # Without rows nobody knows of an accelerator that torch itself has no builds for.
    table = torch_table().releases
    known = {
        cell
        for cell in cells(project, "data.pyg.org")
        if cell.accelerators[0] in accelerators(table[cell.torch])
    }
    assert len(known) > 1000
    assert len(pages) > 50
    rewrite(whole, "torch-scatter", without_rows_of("data.pyg.org"))
    assert run(whole, "--write", *SCATTER) == 1
    found = cells(project_of(whole), "data.pyg.org")
    assert {as_read(cell) for cell in found} == {as_read(cell) for cell in known}


def accelerators(release):
    return {*release.accelerators, release.untagged}


def as_read(cell):
    return dataclasses.replace(cell, note="")


@pytest.mark.parametrize(
    "name",
    long_unless("flash-attn".__eq__, ["flash-attn", "causal-conv1d", "mamba-ssm", "vllm"]),
)
@pytest.mark.parametrize("from_nothing", [False, True])
def test_all_rows_of_a_project_on_github_come_back(host, whole, capsys, name, from_nothing):
    if not (FOLDER / f"{name}.json").is_file():
        pytest.skip(f"{name} is not in the wheel index")
    shutil.copy(FOLDER / f"{name}.json", whole)
    project = load_project(name)
    entry = next(host for host in project.hosts if host.repository)
    put_releases(
        host, entry.repository, [url for _, url in wheels_of(project, entry.host)], project.sha256
    )
    if from_nothing:
        rewrite(whole, name, without_rows_of(entry.host))
    before = text_of(whole, name)
    status = run(whole, "--write", "--host", entry.host, name)
    out, err = capsys.readouterr()
    if from_nothing:
        assert status == 1
        found, known = cells(project_of(whole, name), entry.host), cells(project, entry.host)
        assert {as_read(cell) for cell in found} == {as_read(cell) for cell in known}
    else:
        assert (status, out) == (0, ""), err
        assert text_of(whole, name) == before


def test_a_release_that_is_gone_takes_its_rows_along_and_an_api_that_refuses_does_not(
    host, folder, capsys
):
    shutil.copy(FOLDER / "causal-conv1d.json", folder)
    project = load_project("causal-conv1d")
    entry = project.hosts[0]
    wheels = list(wheels_of(project, entry.host))
    gone = wheels[0][0].version
    words = ["--write", "--host", entry.host, "causal-conv1d"]
    put_releases(host, entry.repository, [url for cell, url in wheels if cell.version != gone])
    host.misbehave("/github-api/", "403")
    before = text_of(folder, "causal-conv1d")
    assert run(folder, *words) == 0
    assert "page-missing" in capsys.readouterr().err
    host.behave()
    host.put(f"/github-api/repos/{entry.repository}/releases", b'{"message": "rate limit"}')
    assert run(folder, *words) == 0
    assert text_of(folder, "causal-conv1d") == before
    put_releases(host, entry.repository, [url for cell, url in wheels if cell.version != gone])
    assert run(folder, *words) == 1
    rows = [b for b in project_of(folder, "causal-conv1d").builds if b.host == entry.host]
    assert {build.version for build in rows} == {cell.version for cell, _ in wheels} - {gone}


# --- hostile text ---

HUGE = "9" * 6000
JUNK = [
    "torch-1.8.0%2Bcu111/../../../etc/torch_scatter-2.0.9-cp39-cp39-linux_x86_64.whl",
    "https://evil.example/whl/torch-1.8.0%2Bcu111/torch_scatter-2.0.9-cp38-cp38-linux_x86_64.whl",
    "torch-1.8.0%2Bcu111/torch_sparse-0.6.13-cp39-cp39-linux_x86_64.whl",
    "torch-1.8.0%2Bcu111/torch_scatter_evil-2.0.9-cp39-cp39-linux_x86_64.whl",
    "torch-1.8.0%2Bcu111/Torch.Scatter-2.0.9-cp37-cp37m-linux_x86_64.whl",
    "torch-1.8.0%2Bcu111/torch_scatter-99999999999999999999.0-cp39-cp39-linux_x86_64.whl",
    "torch-1.8.0%2Bcu111/torch_scatter-1!2.0.9-cp39-cp39-linux_x86_64.whl",
    f"torch-1.8.0%2Bcu111/torch_scatter-{HUGE}-cp39-cp39-linux_x86_64.whl",
    "torch-1.8.0%2Bcu111/torch_scatter-2.0.9-cp399-cp399-linux_x86_64.whl",
    "torch-1.8.0%2Bcu111/torch_scatter-2.0.9-cp39-cp39-linux_x86_64.evil_9.whl",
    "torch-1.8.0%2Bcu111/torch_scatter-2.0.9-cp39-cp39-" + ".".join(["linux_x86_64"] * 30) + ".whl",
    "torch-1.8.0%2Bcu111/torch_scatter-2.0.9-1-cp39-cp39-linux_x86_64.whl",
    "torch-1.8.0%2Bcu111/torch_scatter-2.0.9rc1-cp39-cp39-linux_x86_64.whl",
    "torch-1.8.0%2Bcu111/torch_scatter-2.0.9+pt999cu111-cp39-cp39-linux_x86_64.whl",
    "torch-99.0.0%2Bcu111/torch_scatter-2.0.9-cp39-cp39-linux_x86_64.whl",
    "torch-1.8.0%2Bcu999/torch_scatter-2.0.9-cp39-cp39-linux_x86_64.whl",
    f"torch-{HUGE[:300]}.0.0%2Bcu111/torch_scatter-2.0.9-cp39-cp39-linux_x86_64.whl",
    "torch-1.8.0%2Bcu111/torch_scatter-2.0.9-cp39-cp39-linux_x86_64.whl%00",
    "torch-1.8.0%2Bcu111/torch_scatter-%1b[31m-cp39-cp39-linux_x86_64.whl",
    "http://[torch_scatter/torch_scatter-2.0.9-cp39-cp39-linux_x86_64.whl",
    "javascript:torch_scatter-2.0.9-cp39-cp39-linux_x86_64.whl",
]


def test_hostile_names_never_get_in(host, folder, capsys):
    project = project_of(folder)
    known = [
        url
        for cell, url in wheels_of(project, "data.pyg.org")
        if (cell.torch, cell.accelerators[0]) == FOUNDING
    ]
    good = [f"torch-1.8.0%2Bcu111/{url.rsplit('/', 1)[-1]}" for url in known]
    put_page(
        host, PAGE, [*JUNK, *good], around="<a href='\x1b[31m<a <a href=\"" + "<a " * 50 + '">'
    )
    before = text_of(folder)
    assert run(folder, "--write", *SCATTER) == 0, capsys.readouterr().out
    assert text_of(folder) == before
    err = capsys.readouterr().err
    assert "left out" in err
    assert err.isprintable() or set(filter(lambda c: not c.isprintable(), err)) == {"\n"}


FOUNDING = ("1.8.0", "cu111")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"files": 1}',
        '{"files": [1, null, {"url": 3}, {"url": "x.whl", "hashes": []}]}',
        "\0" * 100,
    ],
    ids=["nested", "no list", "no files", "zeros"],
)
def test_hostile_pages_never_break_it(host, folder, text):
    before = text_of(folder)
    host.put(PAGE, text.encode(), content_type="application/json")
    assert run(folder, "--write", *SCATTER) == 0
    assert text_of(folder) == before


@pytest.mark.parametrize(
    "answer",
    [b"[1, {}, null]", b"[" * 100_000, b'[{"tag_name": "v1", "assets": 3}]', b"null"],
    ids=["no releases", "nested", "no assets", "null"],
)
def test_hostile_releases_never_break_it(host, folder, answer):
    shutil.copy(FOLDER / "causal-conv1d.json", folder)
    entry = load_project("causal-conv1d").hosts[0]
    host.put(
        f"/github-api/repos/{entry.repository}/releases", answer, content_type="application/json"
    )
    before = cells(project_of(folder, "causal-conv1d"), entry.host)
    run(folder, "--write", "--host", entry.host, "causal-conv1d")
    assert cells(project_of(folder, "causal-conv1d"), entry.host) <= before


# --- hashes ---


def test_hashes_are_added_only_where_the_document_keeps_them(host, folder, capsys):
    project = project_of(folder)
    ((known_url, known_hash),) = [
        (u, h) for u, h in project.sha256.items() if u.startswith("https://data.pyg.org")
    ]
    place = known_url.partition("/whl/")[2].rpartition("/")[0]
    wheels = [url for _, url in wheels_of(project, "data.pyg.org") if f"/{place}/" in url]
    hrefs = [
        f"{place}/{url.rsplit('/', 1)[-1]}#sha256={hashlib.sha256(url.encode()).hexdigest()}"
        for url in wheels
    ]
    put_page(host, f"/pyg/whl/{unquote(place)}.html", hrefs)

    assert run(folder, "--write", *SCATTER) == 1
    hashes = project_of(folder).sha256
    assert hashes[known_url] == known_hash
    assert "with another sha256 than the known one" in capsys.readouterr().err
    assert set(hashes) >= set(wheels)

    rewrite(folder, "torch-scatter", lambda document: document.update(sha256={}))
    run(folder, "--write", *SCATTER)
    assert project_of(folder).sha256 == {}


# --- the package index ---


def put_metadata(host, content, name, requires):
    own = "".join(f"Requires-Dist: {line}\n" for line in requires)
    project, version = name.split("-")[:2]
    text = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n{own}\ntorch==0.0.1 is only a description\n"
    path = f"/files/packages/{hashlib.sha256(content).hexdigest()[:8]}/{name}.metadata"
    host.put(path, text.encode())


def wheel(version):
    return f"torchvision-{version}-cp313-cp313-manylinux_2_28_x86_64.whl"


VISION = ["--host", "pypi.org", "torchvision"]


def test_the_pin_of_a_new_version_is_added(host, folder, capsys):
    before = project_of(folder, "torchvision")
    files = {wheel("0.31.0"): b"new", wheel("0.28.0"): b"known", wheel("0.30.0rc1"): b"candidate"}
    host.add_pypi_page("torchvision", files, core_metadata=True)
    put_metadata(
        host, b"new", wheel("0.31.0"), ["numpy", 'torch==1.0; extra == "old"', "torch (==2.16.0)"]
    )
    put_metadata(host, b"known", wheel("0.28.0"), ["torch==2.12.0"])
    put_metadata(host, b"candidate", wheel("0.30.0rc1"), ["torch==2.15.0"])
    assert run(folder, "--write", *VISION) == 1
    out, err = capsys.readouterr()
    after = project_of(folder, "torchvision")
    assert {v: pin for v, pin in after.pins.items() if v not in before.pins} == {
        "0.31.0": "==2.16.0"
    }
    assert after.pins["0.28.0"] == before.pins["0.28.0"] == "==2.13.0"
    assert list(after.pins)[-1] == "0.31.0"
    assert '+    "0.31.0": "==2.16.0"' in out
    assert "the pin of 0.28.0 is '==2.13.0', its metadata says torch==2.12.0: not changed" in err
    assert after.builds == before.builds
    assert run(folder, "--write", *VISION) == 0


def test_the_pin_comes_from_the_json_where_the_wheel_has_no_metadata_beside_it(
    host, folder, capsys
):
    host.add_pypi_page("torchvision", {wheel("0.31.0"): b"new", wheel("0.30.0"): b"older"})
    newest = {"info": {"version": "0.31.0", "requires_dist": ["torch>=2.16"]}}
    host.put(
        "/pypi/pypi/torchvision/json", json.dumps(newest).encode(), content_type="application/json"
    )
    older = {"info": {"version": "0.30.0", "requires_dist": ["torch<3,>=2.15"]}}
    host.put(
        "/pypi/pypi/torchvision/0.30.0/json",
        json.dumps(older).encode(),
        content_type="application/json",
    )
    assert run(folder, "--write", *VISION) == 1
    pins = project_of(folder, "torchvision").pins
    assert pins["0.31.0"] == ">=2.16"
    assert "0.30.0" not in pins  # a range says less than what a binary was built for
    assert (
        "read from its JSON, which may be about another file than the wheel: 0.31.0, 0.30.0"
        in capsys.readouterr().err
    )


def test_the_metadata_of_the_wheel_outweighs_the_json(host, folder, capsys):
    host.add_pypi_page("torchvision", {wheel("0.31.0"): b"new"})
    put_metadata(host, b"new", wheel("0.31.0"), ["torch==2.17.0"])
    newest = {"info": {"version": "0.31.0", "requires_dist": ["torch==2.16.0"]}}
    host.put(
        "/pypi/pypi/torchvision/json", json.dumps(newest).encode(), content_type="application/json"
    )
    assert run(folder, "--write", *VISION) == 1
    assert project_of(folder, "torchvision").pins["0.31.0"] == "==2.17.0"
    assert "JSON" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"\xff\xfe",
        b"Name: numpy\nVersion: 0.31.0\nRequires-Dist: torch==2.16.0\n",
        b"Requires-Dist: torch==1.0",
    ],
)
def test_metadata_of_something_else_gives_no_pin(host, folder, metadata):
    host.add_pypi_page("torchvision", {wheel("0.31.0"): b"new"}, core_metadata=True)
    host.put(
        f"/files/packages/{hashlib.sha256(b'new').hexdigest()[:8]}/{wheel('0.31.0')}.metadata",
        metadata,
    )
    before = project_of(folder, "torchvision").pins
    run(folder, "--write", *VISION)
    assert project_of(folder, "torchvision").pins == before


@pytest.mark.parametrize(
    ("line", "pin"),
    [
        ("torch==2.16.0", "==2.16.0"),
        ("torch==2.16.*", "==2.16.*"),
        ("torch>=2.16", ">=2.16"),
        ("torch!=2.16", None),
        ("torch", None),
        ("torch==2.16.0+cu130", None),
        (f"torch=={'9' * 6000}", None),
        ("torch==2.16.0; python_version ~= 'x'", None),
        ("torch==2.16.0; sys_platform == 'win32'", None),
        ("torch==2.16.0; sys_platform == 'linux'", "==2.16.0"),
        ("torch @ https://evil.example/torch.whl", None),
        ("\x1b]0;torch==2.16.0", None),
    ],
)
def test_which_requirements_become_a_pin(line, pin):
    project = load_project("torchvision")
    pins, _ = package_index.merge_pins(project, {"0.99.0": package_index.torch_requirement([line])})
    assert pins.get("0.99.0") == pin


def test_a_version_of_which_a_doubt_speaks_gets_no_pin_by_itself():
    doubt = Doubt("0.99.0 and 0.98", "its binary is of another torch than its metadata says")
    project = dataclasses.replace(load_project("torchvision"), doubts=(doubt,))
    pins, notes = package_index.merge_pins(project, {"0.99.0": "==2.16.0"})
    assert "0.99.0" not in pins
    assert "a doubt speaks of it" in notes[0]


def test_the_newest_source_distributions(host, folder, capsys):
    known = project_of(folder).sdists
    files = {
        f"torch_scatter-{version}.tar.gz": version.encode()
        for version in ("2.1.3", "2.1.4", "2.1.5", "2.2rc1")
    }
    host.add_pypi_page("torch-scatter", files, requires_python=">=3.10")
    page = json.loads(host.answers["/pypi/simple/torch-scatter/"].body)
    for sdist in known[1:]:  # the first one is not there any more
        name = sdist.url.rsplit("/", 1)[-1]
        page["files"].append(
            {"filename": name, "url": sdist.url, "hashes": {"sha256": sdist.sha256}}
        )
    evil = "https://evil.example/packages/aa/torch_scatter-2.1.9.tar.gz"
    page["files"].append(
        {"filename": evil.rsplit("/", 1)[-1], "url": evil, "hashes": {"sha256": "a" * 64}}
    )
    host.put(
        "/pypi/simple/torch-scatter/", json.dumps(page).encode(), content_type="application/json"
    )
    assert run(folder, "--write", "--host", "pypi.org", "torch-scatter") == 1
    sdists = project_of(folder).sdists
    assert sdists[: len(known) - 1] == known[1:]
    assert [(sdist.version, sdist.requires_python) for sdist in sdists[len(known) - 1 :]] == [
        (version, ">=3.10") for version in ("2.1.3", "2.1.4", "2.1.5")
    ]
    host.misbehave("/pypi/", "500")
    before = text_of(folder)
    assert run(folder, "--write", "--host", "pypi.org", "torch-scatter") == 0
    assert text_of(folder) == before
    assert "pypi.org: host-down ('500 Internal Server Error')" in capsys.readouterr().err


def test_at_most_eight_wheels_of_the_newest_version():
    project = load_project("torchcodec")
    pythons = [
        "cp310-cp310",
        "cp312-cp312",
        "cp39-cp39",
        "cp314-cp314t",
        "cp311-cp311",
        "cp313-cp313",
    ]
    platforms = [
        "manylinux_2_28_x86_64",
        "manylinux_2_28_aarch64",
        "win_amd64",
        "macosx_12_0_arm64",
    ]
    names = [
        f"torchcodec-{v}-{tags}-{p}.whl"
        for v in ("9.0", "9.1", "9.2rc1")
        for tags in pythons
        for p in platforms
    ]
    names += ["torchcodec-9.1-py3-none-any.whl"]
    links = [
        Link(f"https://files.pythonhosted.org/packages/{number}/{name}", name, f"{number:064x}")
        for number, name in enumerate(names)
    ]
    rows = package_index.merge_wheels(project, [], package_index.IndexPage(tuple(links)))
    assert [row["url"].split("-", 1)[1].replace("manylinux_2_28_", "") for row in rows] == [
        "9.1-cp39-cp39-x86_64.whl",
        "9.1-cp310-cp310-x86_64.whl",
        "9.1-cp311-cp311-x86_64.whl",
        "9.1-cp312-cp312-x86_64.whl",
        "9.1-cp313-cp313-x86_64.whl",
        "9.1-cp314-cp314t-x86_64.whl",
        "9.1-cp313-cp313-aarch64.whl",
        "9.1-cp314-cp314t-aarch64.whl",
    ]
    known = list(reversed(rows))
    assert (
        package_index.merge_wheels(project, known, package_index.IndexPage(tuple(links))) == known
    )


# --- how it is called ---


def test_a_date_is_written_when_everything_was_listed(host, folder):
    rewrite(
        folder,
        "torchvision",
        lambda document: document.update(hosts=document["hosts"][-2:-1], builds=[]),
    )
    assert [h["layout"] for h in json.loads(text_of(folder, "torchvision"))["hosts"]] == ["pypi"]
    rewrite(folder, "torchvision", lambda document: document.update(checked="2026-01-01"))
    host.add_pypi_page("torchvision", {wheel("0.28.0"): b"known"})
    assert run(folder, "--write", "torchvision") == 1
    assert project_of(folder, "torchvision").checked == TODAY
    assert run(folder, "--write", "torchvision") == 0


def test_an_optional_host_is_asked_only_by_name():
    project = load_project("flash-attn")
    optional = [host.host for host in project.hosts if host.optional]
    assert optional
    assert not {host.host for host in asking.hosts_of(project, "")} & set(optional)
    assert [host.host for host in asking.hosts_of(project, optional[0])] == optional[:1]


def test_every_project_can_be_asked(host, folder, capsys):
    """Every document, every host that is not optional, all of them silent: nothing changes and
    nothing breaks."""
    for path in FOLDER.glob("*.json"):
        shutil.copy(path, folder)
    host.stop()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    mirrored = {urlsplit(start).hostname for start in wheelhost.HOSTS} | {
        "api.github.com",
        "github.com",
    }
    names = [
        path.stem
        for path in folder.glob("*.json")
        if path.stem not in TABLES
        and all(
            urlsplit(page).hostname in mirrored
            for h in load_project(path.stem).hosts
            for page in h.pages
        )
    ]
    assert len(names) > 10
    assert run(folder, "--write", *names) == 0
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-project"],
        ["cuda"],
        ["../torch-scatter"],
        ["--host", "no.such.host"],
        ["--no-such-option"],
    ],
)
def test_usage(folder, words, capsys):
    try:
        status = run(folder, *words)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert capsys.readouterr().err
