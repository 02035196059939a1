"""The tool under attack: hostile wheels, hosts, pages and networks, each against the real command
line.

One environment serves the whole module. Whatever is tried on it, nothing may change in it, beside
it or in the home directory; the message names what was wrong and where; and nothing is left that
would stop the next run, which the installs among the attacks show.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import ssl
import struct
import subprocess
import tarfile
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence
from urllib.parse import quote

import pytest

from tests.functional.conftest import Environment, clean_variables, need_python, read_document
from tests.lab.wheels import write_wheel
from tests.treehash import read_tree
from tests.unit.wheels.crafted import make_entry, make_row, make_wheel
from tests.wheelhost import WheelHost

PYTHON, TORCH = "3.11", "torch==2.4.1"
VERSION = "2.1.2+pt24cu121"
FOLDER = "https://data.pyg.org/whl/torch-2.4.0%2Bcu121"
TAG = "cp311-cp311-linux_x86_64"
FILE = f"torch_scatter-{VERSION}-{TAG}.whl"
INFO = f"torch_scatter-{VERSION}.dist-info"
DATA = f"torch_scatter-{VERSION}.data"
METADATA = f"Metadata-Version: 2.1\nName: torch_scatter\nVersion: {VERSION}\n"
SCATTER = ("install", "--no-build", "torch-scatter")
RAW = [chr(n) for n in (*range(32), *range(127, 160)) if chr(n) not in "\n\t\r"]
RAW += list("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
STEER = "\x1b[2J\x1b]0;title\x07\x9b31m\u202e"


class Ground:
    """An environment, what lies around it, and the host that attacks it."""

    def __init__(self, root: Path, environment: Environment, host: WheelHost) -> None:
        self.root, self.environment, self.host = root, environment, host
        self.home = root / "home"
        for canary in (
            "canary/evil.py",
            "evil.py",
            "home/.bashrc",
            "home/.ssh/authorized_keys",
            "env/notes.txt",
        ):
            (root / canary).parent.mkdir(parents=True, exist_ok=True)
            (root / canary).write_text(f"{canary} is a canary\n")
        shutil.copytree(root / "env", root / "kept", symlinks=True)
        self.before = self.look()

    def look(self) -> Dict[str, Any]:
        """All that must not change."""
        places = {name: read_tree(self.root / name) for name in ("env", "canary")}
        home = {
            name: row
            for name, row in read_tree(self.home).items()
            if name.startswith((".bashrc", ".ssh"))
        }
        return {**places, "home": home, "beside": sorted(path.name for path in self.root.iterdir())}

    def reset(self) -> None:
        """A host that behaves and has nothing; nothing in the cache, and nothing seen."""
        self.host.behave()
        self.host.answers.clear()
        self.host.requests.clear()
        for kept in (self.home / "cache", self.home / ".local", self.home / ".cache"):
            shutil.rmtree(kept, ignore_errors=True)

    def serve(self, wheel: bytes) -> None:
        """The wheel that fits, on its page."""
        self.host.add_pyg_page("2.4.0", "cu121", {FILE: wheel})

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """The tool."""
        return self.environment.safe_install(*words, **variables)

    def restore(self) -> None:
        """The environment as it was, without asking the tool to undo."""
        shutil.rmtree(self.root / "env")
        subprocess.run(
            ["cp", "-a", "--reflink=auto", str(self.root / "kept"), str(self.root / "env")],
            check=True,
        )

    def is_unharmed(self) -> None:
        """Nothing changed, and nothing is in the way of the next run."""
        after = self.look()
        for place, rows in self.before.items():
            assert after[place] == rows, place
        state = self.environment.prefix / ".safe-install"
        assert [
            path.name for path in state.glob("*") if path.name.startswith(("txn-", "trash-"))
        ] == []
        assert not list(self.home.rglob("part")), "no part of a hostile file is left"

    def refuses(self, *words: str, status: Sequence[int] = (11,), **variables: str) -> str:
        """The command is refused with a message and a mend, and nothing changed; what it said."""
        completed = self.run(*(words or SCATTER), **variables)
        said = completed.stdout + completed.stderr
        assert completed.returncode in status, said
        assert "Traceback" not in said
        assert "hint: " in completed.stderr
        assert [character for character in RAW if character in said] == []
        self.is_unharmed()
        return said


@pytest.fixture(scope="module")
def ground(tmp_path_factory, make_template, lab_wheels, driver) -> Iterator[Ground]:
    root = tmp_path_factory.mktemp("ground")
    need_python(PYTHON)
    template = make_template(PYTHON, (TORCH,))
    subprocess.run(["cp", "-a", "--reflink=auto", str(template), str(root / "env")], check=True)
    (root / "home").mkdir()
    with WheelHost() as host:
        online = {
            "SAFE_INSTALL_MIRRORS": host.mirrors,
            "PIP_NO_INDEX": "",
            "PIP_INDEX_URL": host.index_url,
        }
        variables = {**clean_variables(driver, lab_wheels(PYTHON).index, root / "home"), **online}
        yield Ground(
            root, Environment(root / "env", {**variables, "FAKE_DRIVER_CUDA": "12.1"}), host
        )


@pytest.fixture(autouse=True)
def fresh(ground: Ground) -> None:
    ground.reset()


@pytest.fixture
def good(lab_wheels) -> bytes:
    """The wheel that works."""
    (wheel,) = (lab_wheels(PYTHON).extensions / "2.4.1+cu121").glob("*.whl")
    return wheel.read_bytes()


def craft(folder: Path, files: Optional[Mapping[str, Any]] = None, **options: Any) -> bytes:
    """A wheel of torch-scatter for this torch; what the test does not name is right."""
    files = {"torch_scatter/__init__.py": "x = 1\n"} if files is None else files
    options = {"filename": FILE, "metadata": METADATA, "dist_info": INFO, **options}
    options["wheel"] = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: {TAG}\n"
    return make_wheel(folder, files, **options).read_bytes()


# --- hostile wheels -------------------------------------------------------------------------------

WHEELS = {
    "absolute member": ({"files": {"/tmp/evil.py": ""}}, "'/tmp/evil.py' is absolute"),
    "member above": ({"files": {"../../../../../evil.py": ""}}, "leaves its folder"),
    "symbolic link": (
        {"extra": [(make_entry("torch_scatter/l", mode=0o120777), "/etc/passwd")]},
        "is a link",
    ),
    "RECORD with another's file": (
        {"record": lambda t: t + make_row("torch/__init__.py", "")},
        "torch/__init__.py",
    ),
    "RECORD lies": (
        {"record": lambda t: t.replace("init__.py,sha256=", "init__.py,sha256=AAAA", 1)},
        "RECORD",
    ),
    "METADATA: another name": (
        {"metadata": METADATA.replace("torch_scatter", "torch")},
        "the project is 'torch'",
    ),
    "METADATA: another version": (
        {"metadata": METADATA.replace("2.1.2", "2.1.3")},
        "says version 2.1.3",
    ),
    "METADATA: a name that steers": (
        {"metadata": METADATA.replace("torch_s", f"{STEER}torch_s")},
        "the project is",
    ),
    "second dist-info": (
        {"files": {"torch-9.dist-info/METADATA": "Name: torch\n"}},
        "2 .dist-info folders",
    ),
    "bomb, by honest headers": (
        {"files": {"torch_scatter/zeros": bytes(201 * 2**20)}},
        "more than the limit",
    ),
    "interpreter": (
        {"files": {f"{DATA}/scripts/python3": "#!/bin/sh\n"}},
        "environment's own python3",
    ),
    "command that steers": (
        {"files": {f"{INFO}/entry_points.txt": f"[console_scripts]\n{STEER} = a:b\n"}},
        "not a plain file name",
    ),
    "member that steers": (
        {"files": {f"torch_scatter/{STEER}.py": ""}},
        "readers treat differently",
    ),
    # These are right as wheels, and are refused for where they would write.
    "torch's own file": ({"files": {"torch/__init__.py": "evil = 1\n"}}, "torch"),
    "a journal to be recovered": (
        {"files": {f"{DATA}/data/.safe-install/txn-20260101T000000Z-aaaa/journal": "evil\n"}},
        ".safe-install",
    ),
    "RECORD of another": (
        {
            "files": {
                f"{DATA}/purelib/typing_extensions-4.7.1.dist-info/RECORD": "../../../../evil.py,,\n"
            }
        },
        "typing_extensions-4.7.1.dist-info",
    ),
}


@pytest.mark.parametrize(("options", "told"), WHEELS.values(), ids=WHEELS.keys())
def test_a_hostile_wheel(ground, tmp_path, options, told):
    ground.serve(craft(tmp_path, **options))
    said = ground.refuses()
    assert told in said
    assert "torch_scatter" in said or "torch-scatter" in said


def test_a_dry_run_refuses_what_the_run_would(ground, tmp_path):
    """It unpacks nothing, and knows all the same that a file is another one than RECORD says."""
    options, told = WHEELS["RECORD lies"]
    ground.serve(craft(tmp_path, **options))
    assert told in ground.refuses(*SCATTER, "--dry-run")


def test_a_bomb_whose_headers_lie(ground, tmp_path):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(30 * 2**20)) + packer.flush()
    honest, lying = make_row("torch_scatter/zeros", packed), make_row("torch_scatter/zeros", b"\0")
    files = {"torch_scatter/zeros": packed}
    wheel = craft(
        tmp_path,
        files,
        compression=zipfile.ZIP_STORED,
        record=lambda text: text.replace(honest, lying),
    )
    # The same bytes, called deflated in both headers, with the size and the checksum of their first
    # byte.
    crc = struct.pack("<I", zlib.crc32(packed))
    for start, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        where = next(n for n in find_all(wheel, start) if wheel[n + at + 6 : n + at + 10] == crc)
        fields = struct.pack("<HHHIII", 8, 0, 33, zlib.crc32(b"\0"), len(packed), 1)
        wheel = wheel[: where + at] + fields + wheel[where + at + len(fields) :]
    ground.serve(wheel)
    assert "unpacks to more than the 1 bytes" in ground.refuses()


def find_all(content: bytes, part: bytes) -> Iterator[int]:
    at = content.find(part)
    while at >= 0:
        yield at
        at = content.find(part, at + 1)


def test_a_million_entries(ground):
    start = struct.pack(
        "<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 0, 0, 33, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0
    )
    entries = b"".join(start + b"%05x" % number for number in range(1_000_000))
    ground.serve(entries + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 5, 5, len(entries), 0, 0))
    started = time.monotonic()
    assert f"{FILE}: more than 100000 entries" in ground.refuses()
    assert time.monotonic() - started < 30


def test_what_another_system_would_mind_is_installed_and_said(ground, good, tmp_path):
    """As with pip: names that Windows reserves, names that differ in case only, code that runs at
    every start."""
    path = tmp_path / FILE
    path.write_bytes(good)
    more = {
        "torch_scatter/aux.py": "x = 1\n",
        "torch_scatter/Aux.py": "x = 2\n",
        "con.py": "",
        "scatter.pth": "import sys\n",
    }
    repack(path, more)
    ground.serve(path.read_bytes())
    completed = ground.run(*SCATTER)
    try:
        assert completed.returncode == 0, completed.stderr
        assert "torch_scatter/aux.py and torch_scatter/Aux.py" in completed.stderr
        assert "scatter.pth: code that runs at every start" in completed.stderr
        assert (
            ground.environment.ask(
                "import con, torch_scatter.aux as a, torch_scatter.Aux as b; print(a.x, b.x)"
            )
            == "1 2"
        )
    finally:
        ground.restore()


def repack(path: Path, more: Mapping[str, str]) -> None:
    """Put files into a wheel, and their rows into its RECORD."""
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    record = next(name for name in members if name.endswith("/RECORD"))
    rows = "".join(make_row(name, content) for name, content in more.items())
    members[record] = rows.encode() + members[record]
    with zipfile.ZipFile(path, "w") as target:
        for name, content in {**more, **members}.items():
            target.writestr(name, content)


# --- hostile hosts --------------------------------------------------------------------------------

FAULTS = {
    "cut off": ("truncated", (1,), "broke off"),
    "redirect to another host": (
        "redirect https://evil.example/{path}",
        (1,),
        "redirects to evil.example",
    ),
    "more than announced": ("overrun", (11,), "zip"),
    "an error that steers": ("steer", (1,), "500"),
}


@pytest.mark.parametrize(("fault", "status", "told"), FAULTS.values(), ids=FAULTS.keys())
def test_a_hostile_answer(ground, good, fault, status, told):
    ground.serve(good)
    ground.host.misbehave(".whl", fault)
    said = ground.refuses(status=status)
    assert told in said
    assert FILE.replace("+", "%2B") in said or FILE in said


def astral(ground: Ground, wheel: bytes, **entry: Any) -> None:
    """The page of a host that states hashes and sizes, with one that is wrong."""
    name = f"torch_scatter-2.1.2+cu.12.1.torch.2.4-{TAG}.whl"
    ground.host.add_astral_page("cu121", "torch-scatter", {name: wheel})
    page = ground.host.answers["/astral/simple/cu121/torch-scatter/"]
    document = json.loads(page.body)
    document["files"][0].update(entry)
    page.body = json.dumps(document).encode()


@pytest.mark.parametrize(
    ("entry", "status", "told"),
    [
        ({"hashes": {"sha256": "0" * 64}}, (11,), "0" * 64),
        ({"hashes": {"sha256": "0" * 64}, "size": 10}, (1,), "more than the limit of 10"),
        ({"size": 10**7}, (1,), "promised were 10000000"),
    ],
    ids=["wrong hash", "larger than listed", "smaller than listed"],
)
def test_a_page_that_states_something_else(ground, good, entry, status, told):
    astral(ground, good, **entry)
    said = ground.refuses(status=status)
    assert told in said
    assert "wheels.astral.sh" in said


def test_a_file_without_end(ground, good):
    astral(ground, good)
    ground.host.misbehave("/artifacts/", "endless")
    assert "sends more than the limit" in ground.refuses(status=(1,))


PAGES = {
    "great depth": b"[" * 1_000_000,
    "a name of 100 kB": f'<a href="torch_scatter-{"9" * 100_000}-{TAG}.whl">x</a>'.encode(),
    "names that steer": f'<a href="torch_scatter-9.9%1b[2J%9b%0Aerror:-{TAG}.whl">{STEER}</a>'.encode(),
    "files of this machine": f'<a href="file:///tmp/{quote(FILE)}">x</a>'.encode(),
    "files of another host": f'<a href="https://evil.example/{quote(FILE)}">x</a>'.encode(),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_a_hostile_page(ground, page):
    """It ends soon, and with a refusal: nothing on it can be installed."""
    ground.host.put("/pyg/whl/torch-2.4.0+cu121.html", page, content_type="text/html")
    started = time.monotonic()
    said = ground.refuses(status=(1, 10))
    assert time.monotonic() - started < 30
    assert "data.pyg.org" in said


def test_a_wheel_on_this_machine_that_a_page_points_to_is_not_taken(ground, good):
    (ground.root / "canary" / FILE).write_bytes(good)
    try:
        ground.before["canary"] = read_tree(ground.root / "canary")
        href = (ground.root / "canary" / FILE).as_uri()
        ground.host.put(
            "/pyg/whl/torch-2.4.0+cu121.html",
            f'<a href="{href}">x</a>'.encode(),
            content_type="text/html",
        )
        ground.refuses(status=(10,))
    finally:
        (ground.root / "canary" / FILE).unlink()
        ground.before["canary"] = read_tree(ground.root / "canary")


def test_https_is_not_left(ground, good, tmp_path):
    """A host with TLS that sends on to plain http, on loopback where plain http is otherwise
    allowed."""
    key = tmp_path / "key.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    command = ["openssl", *words.split(), "-keyout", str(key), "-out", str(key.with_suffix(".crt"))]
    made = subprocess.run(command, capture_output=True)
    if made.returncode != 0:
        pytest.skip("no openssl here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(key.with_suffix(".crt")), str(key))
    with WheelHost() as secure:
        secure._server.socket = context.wrap_socket(secure._server.socket, server_side=True)
        url = secure.url.replace("http://127.0.0.1", "https://localhost")
        secure.add_pyg_page("2.4.0", "cu121", {FILE: good})
        ground.serve(good)
        secure.misbehave(
            ".whl", f"redirect {ground.host.url.replace('127.0.0.1', 'localhost')}{{path}}"
        )
        trusted = {
            "SAFE_INSTALL_MIRRORS": f"https://data.pyg.org={url}/pyg {ground.host.mirrors}",
            "REQUESTS_CA_BUNDLE": str(key.with_suffix(".crt")),
        }
        assert "redirects from https to http" in ground.refuses(status=(1,), **trusted)
        assert secure.asked(FILE)
    assert not ground.host.asked(FILE)


# --- secrets --------------------------------------------------------------------------------------

SECRET = "hunter2"


def with_secret(url: str) -> str:
    return url.replace("//", f"//user:{SECRET}@")


def find_secret(folder: Path) -> List[Path]:
    """The files that hold it, or one of its usual spellings."""
    spellings = [SECRET.encode(), base64.b64encode(f"user:{SECRET}".encode())]
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(spelling in path.read_bytes() for spelling in spellings)]


@pytest.mark.parametrize(
    ("fate", "options"), [("installed", ("--json",)), ("refused", ()), ("failed", ("-v",))]
)
def test_a_password_in_an_address_is_nowhere(ground, good, tmp_path, fate, options):
    """Mirrors, find-links, index and extra index with a password; an install, a refusal, and a
    failure of pip."""
    host = ground.host
    ground.serve(good if fate == "installed" else craft(tmp_path, {"../evil.py": ""}))
    host.put(
        "/links/index.html", b'<a href="x-1.0-py3-none-any.whl">x</a>', content_type="text/html"
    )
    secrets = {
        "SAFE_INSTALL_MIRRORS": host.mirrors.replace("=http://", f"=http://user:{SECRET}@"),
        "PIP_EXTRA_INDEX_URL": with_secret(f"{host.url}/extra/simple/"),
    }
    words = [
        "--index-url",
        with_secret(host.index_url),
        "--find-links",
        with_secret(f"{host.url}/links/index.html"),
    ]
    project = "no-such-project" if fate == "failed" else "torch-scatter"
    completed = ground.run("install", "--no-build", *options, *words, project, **secrets)
    try:
        assert completed.returncode == {"installed": 0, "refused": 11, "failed": 1}[fate], (
            completed.stderr
        )
        assert SECRET not in completed.stdout + completed.stderr
        assert find_secret(ground.root) == []
        history = ground.run("history", "--json")
        assert SECRET not in history.stdout
        assert fate != "installed" or "****@" in history.stdout
    finally:
        if fate == "installed":
            ground.restore()
    assert any("Authorization" in headers for _, headers in host.requests), "the password was used"


def test_a_password_is_not_sent_to_another_host(ground, good):
    """Neither by our own client nor by pip: pages, redirects and links lead to a second host."""
    wheel = "demo-1.0-py3-none-any.whl"
    with WheelHost() as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        links = f"{ground.host.url}/links/index.html"
        anchors = f'<a href="{elsewhere}/files/{wheel}">x</a><a href="{elsewhere}/files/{quote(FILE)}">x</a>'
        ground.host.put("/links/index.html", anchors.encode(), content_type="text/html")
        other.put(f"/files/{FILE}", good)
        other.put(f"/files/{wheel}", pure_wheel(ground.root.parent / "made", "demo", "1.0"))
        words = ("--no-build", "--find-links", with_secret(links), "torch-scatter", "demo")
        completed = ground.run("install", "--dry-run", *words)
        said = completed.stdout + completed.stderr
        assert completed.returncode == 0, said
        ground.is_unharmed()
        assert other.asked(FILE) and other.asked(wheel)
        assert [path for path, headers in other.requests if "Authorization" in headers] == []
        assert SECRET not in said


def pure_wheel(
    folder: Path, name: str, version: str, files: Optional[Mapping[str, str]] = None, **options: Any
) -> bytes:
    return write_wheel(
        folder, name, version, files or {f"{name.replace('-', '_')}.py": ""}, **options
    ).read_bytes()


# --- dependency confusion -------------------------------------------------------------------------


def extra_index(ground: Ground, project: str, files: Mapping[str, bytes]) -> Dict[str, str]:
    """An index of somebody else's that has a project of that name."""
    ground.host.add_pypi_page(project, files)
    page = ground.host.answers.pop(f"/pypi/simple/{project}/")
    for name, content in files.items():
        ground.host.put(f"/extra/files/{name}", content)
        page.body = page.body.replace(
            f"https://files.pythonhosted.org/packages/{hashlib.sha256(content).hexdigest()[:8]}/{quote(name)}".encode(),
            f"{ground.host.url}/extra/files/{quote(name)}".encode(),
        )
    ground.host.answers[f"/extra/simple/{project}/"] = page
    return {"PIP_EXTRA_INDEX_URL": f"{ground.host.url}/extra/simple/"}


def plans_the_right_one(ground: Ground, *words: str, **variables: str) -> None:
    document = read_document(ground.run("install", "--dry-run", *words, "--json", **variables))
    assert document["exit_code"] == 0, document["error"]
    steps = {step["name"]: step for step in document["plan"]["steps"]}
    assert steps["torch-scatter"]["url"] == f"{FOLDER}/{quote(FILE)}"
    assert "evil" not in json.dumps(document["plan"]["steps"])
    ground.is_unharmed()


@pytest.mark.parametrize(
    ("project", "name"),
    [
        ("torch-scatter", f"torch_scatter-{VERSION}-99-{TAG}.whl"),
        ("scatter-user", f"torch_scatter-99.0-{TAG}.whl"),
    ],
)
def test_an_extension_on_an_index_that_is_not_its_own(ground, good, tmp_path, project, name):
    """A higher version, and the same version with a higher build number, each with a requirement of
    its own."""
    version = name.split("-")[1]
    evil = write_wheel(
        tmp_path,
        "torch-scatter",
        version,
        {"torch_scatter/__init__.py": "evil = 1\n"},
        requires=["evil-payload"],
        tag=name[len(f"torch_scatter-{version}-") : -len(".whl")],
    )
    ground.serve(good)
    variables = extra_index(ground, "torch-scatter", {name: evil.read_bytes()})
    extra_index(
        ground,
        "evil-payload",
        {"evil_payload-1.0-py3-none-any.whl": pure_wheel(tmp_path, "evil-payload", "1.0")},
    )
    plans_the_right_one(ground, project, "typing-extensions", **variables)


def test_source_of_somebody_else_is_not_run(ground, good, tmp_path):
    """pip would run setup.py of whatever the index has under the name, only to learn what it
    requires."""
    archive = io.BytesIO()
    code = f"open({str(ground.root / 'canary' / 'was-run')!r}, 'w').close()\n"
    with tarfile.open(fileobj=archive, mode="w:gz") as target:
        for name, text in (
            ("setup.py", code),
            ("PKG-INFO", "Metadata-Version: 2.1\nName: torch-scatter\nVersion: 99.0\n"),
        ):
            info = tarfile.TarInfo(f"torch_scatter-99.0/{name}")
            info.size = len(text)
            target.addfile(info, io.BytesIO(text.encode()))
    ground.serve(good)
    variables = extra_index(
        ground, "torch-scatter", {"torch_scatter-99.0.tar.gz": archive.getvalue()}
    )
    plans_the_right_one(ground, "--no-build", "scatter-user", **variables)
    assert not ground.host.asked("/extra/files/torch_scatter")


# --- trust without hashes -------------------------------------------------------------------------


@pytest.fixture
def changed(ground, good, tmp_path) -> bytes:
    """The wheel was seen once, and its host serves another one now; the cache is gone meanwhile."""
    ground.serve(good)
    assert ground.run("install", "--dry-run", "--no-build", "torch-scatter").returncode == 0
    path = tmp_path / FILE
    path.write_bytes(good)
    repack(path, {"torch_scatter/more.py": "x = 1\n"})
    ground.serve(path.read_bytes())
    shutil.rmtree(ground.home / "cache")
    return path.read_bytes()


def test_a_file_that_changed_behind_its_address(ground, good, changed):
    """The way out is to remove the file that the hint names."""
    said = ground.refuses()
    assert hashlib.sha256(good).hexdigest() in said
    assert hashlib.sha256(changed).hexdigest() in said
    assert f"{FOLDER}/{quote(FILE)}" in said
    (record,) = [
        word
        for word in said.split()
        if word.startswith(str(ground.home)) and word.endswith(".json")
    ]
    Path(record).unlink()
    assert ground.run("install", "--dry-run", "--no-build", "torch-scatter").returncode == 0


def test_what_was_refused_does_not_stand_in_the_way(ground, good, tmp_path):
    """The host is mended: nothing has to be removed first."""
    ground.serve(craft(tmp_path, {"../evil.py": ""}))
    ground.refuses()
    ground.serve(good)
    assert ground.run("install", "--dry-run", "--no-build", "torch-scatter").returncode == 0


def test_hashes_are_required(ground, good, tmp_path):
    """What nobody promised is refused; a hash that the person gives is a promise."""
    ground.serve(good)
    assert "no sha256 is known" in ground.refuses(
        "install", "--no-build", "--require-hashes", "torch-scatter"
    )
    listed = tmp_path / "requirements.txt"
    digest = hashlib.sha256(good).hexdigest()
    words = ("--no-build", "--require-hashes", "-r", str(listed))
    listed.write_text(f"torch-scatter=={VERSION} --hash=sha256:{'0' * 64}\n")
    assert digest in ground.refuses("install", *words)
    listed.write_text(f"torch-scatter=={VERSION} --hash=sha256:{digest}\n")
    completed = ground.run("install", "--dry-run", *words)
    assert completed.returncode == 0, completed.stderr


KNOWN = {  # a wheel of the index that fits the torch here
    "url": "https://files.pythonhosted.org/packages/b3/68/737391103484d5abd7fe3685e1826fb08b63d66b21af2de4f53b92d40d2c/"
    "spconv_cu121-2.3.8-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "sha256": "1740699b947465adfa4c4237c11213c5b18abda7ef1925da6f73fa1ba3c83f8b",
}


@pytest.mark.parametrize("states", ["no hash", "another hash"])
def test_the_hash_of_the_wheel_index_comes_first(ground, tmp_path, states):
    name = KNOWN["url"].rsplit("/", 1)[-1]
    tag = name[len("spconv_cu121-2.3.8-") : -len(".whl")]
    wheel = write_wheel(
        tmp_path, "spconv-cu121", "2.3.8", {"spconv/__init__.py": ""}, tag=tag
    ).read_bytes()
    digest = hashlib.sha256(wheel).hexdigest()
    ground.host.put_file(KNOWN["url"], wheel)
    fragment = "" if states == "no hash" else f"#sha256={digest}"
    page = f'<a href="{KNOWN["url"]}{fragment}">x</a>'.encode()
    ground.host.put("/pypi/simple/spconv-cu121/", page, content_type="text/html")
    said = ground.refuses("install", "--no-build", "--no-deps", "spconv-cu121")
    assert KNOWN["sha256"] in said
    assert digest in said


# --- words that steer -----------------------------------------------------------------------------


def test_words_of_others_do_not_steer_the_terminal(ground, tmp_path):
    """METADATA of an ordinary project, relayed by pip and by us."""
    content = pure_wheel(
        tmp_path,
        "loud",
        "1.0",
        requires=[f"absent-{STEER}"],
        metadata=f"Summary: {STEER}\nAuthor: {STEER}\n",
    )
    ground.host.add_pypi_page(
        "loud", {"loud-1.0-py3-none-any.whl": content}, yanked=f"because {STEER}"
    )
    completed = ground.run("install", "-v", "loud==1.0")
    said = completed.stdout + completed.stderr
    assert completed.returncode in (0, 1), said
    if completed.returncode == 0:
        ground.restore()
    assert [character for character in RAW if character in said] == []


# --- and after all of that ------------------------------------------------------------------------


def test_the_environment_still_works(ground):
    ground.is_unharmed()
    assert ground.environment.cuda() == "2.4.1+cu121 True"
    assert ground.run("verify").returncode == 0
