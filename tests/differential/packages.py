"""What the command lines of the table are about: wheels, projects, requirement files, and an index
on loopback.

Everything is made here; nothing is fetched, and no torch is among it.
"""

from __future__ import annotations

import base64
import hashlib
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict
from urllib.parse import unquote, urlsplit

from tests.lab.wheels import write_wheel

USER, PASSWORD = "person", "pass word@1"
SCRIPT = "[console_scripts]\nalpha = alpha:main\n"

BACKEND = """
import base64, hashlib, os, sys, zipfile
NAME, VERSION = {name!r}, {version!r}
INFO = "%s-%s.dist-info/" % (NAME, VERSION)
HERE = os.path.dirname(os.path.abspath(__file__))
def _digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
def _build(folder, name, text):
    files = {{
        name: text,
        INFO + "METADATA": "Metadata-Version: 2.1\\nName: %s\\nVersion: %s\\n" % (NAME, VERSION),
        INFO + "WHEEL": "Wheel-Version: 1.0\\nGenerator: own\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    rows = ["%s,sha256=%s,%d\\n" % (path, _digest(text), len(text)) for path, text in files.items()]
    files[INFO + "RECORD"] = "".join(rows) + INFO + "RECORD,,\\n"
    wheel = "%s-%s-py3-none-any.whl" % (NAME, VERSION)
    with zipfile.ZipFile(os.path.join(folder, wheel), "w") as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2021, 4, 1, 0, 0, 0)), content)
    return wheel
def build_wheel(folder, config_settings=None, metadata_directory=None):
    print("the build of", NAME, "speaks")
    if os.path.exists(os.path.join(HERE, "broken")):
        sys.exit("the build of %s fails" % NAME)
    text = "value = 4\\nsettings = %r\\n" % (config_settings or {{}},)
    if NAME == "needy":
        import beta
        text += "built_with = %r\\n" % beta.version
    return _build(folder, NAME + ".py", text)
def build_editable(folder, config_settings=None, metadata_directory=None):
    return _build(folder, "__editable__%s.pth" % NAME, HERE + "\\n")
"""


def write_project(
    folder: Path, name: str, version: str, *, broken: bool = False, requires: str = "[]"
) -> Path:
    """A project whose build backend is its own, so that nothing has to be fetched to build it."""
    folder.mkdir(parents=True)
    (folder / f"{name}.py").write_text("value = 4\n")
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = {requires}\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "{version}"\n'
    )
    (folder / "backend.py").write_text(BACKEND.format(name=name, version=version))
    if broken:
        (folder / "broken").write_text("")
    return folder


def write_sdist(folder: Path, project: Path, name: str, version: str) -> Path:
    """The project as a source archive."""
    path = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(project, f"{name}-{version}")
        info = tarfile.TarInfo(f"{name}-{version}/PKG-INFO")
        content = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
        info.size = len(content)
        archive.addfile(info, __import__("io").BytesIO(content))
    return path


def write_alpha_and_what_it_needs(wheels: Path) -> None:
    """alpha in three versions, one of them a pre-release; beta in two; gamma, with a data file."""
    code = {"alpha/__init__.py": "def main(): print('alpha')\n", "alpha/data/one.txt": "1\n"}
    for version in ("1.0", "1.5", "2.0rc1"):
        info = {f"alpha-{version}.dist-info/entry_points.txt": SCRIPT}
        write_wheel(
            wheels,
            "alpha",
            version,
            {**code, **info},
            requires=["beta>=1", 'gamma; extra == "more"'],
        )
    for version in ("1.0", "2.0"):
        write_wheel(wheels, "beta", version, {"beta.py": f"version = {version!r}\n"})
    write_wheel(
        wheels, "gamma", "3.0", {"gamma.py": "", "gamma-3.0.data/data/share/gamma.txt": "shared\n"}
    )


def write_packages(root: Path) -> Path:
    """All files below `root`; the folder."""
    wheels = root / "wheels"
    write_alpha_and_what_it_needs(wheels)
    write_wheel(wheels, "Mixed.Case_Name", "1.0", {"mixed.py": ""}, requires=["Beta", "Zeta"])
    write_wheel(wheels, "zeta", "1.0", {"zeta/__init__.py": ""}, requires=["gamma"])
    write_wheel(wheels, "needs-old-beta", "1.0", {"old_beta.py": ""}, requires=["beta<2"])
    write_wheel(wheels, "ring-one", "1.0", {"ring_one.py": ""}, requires=["ring-two"])
    write_wheel(wheels, "ring-two", "1.0", {"ring_two.py": ""}, requires=["ring-one", "beta"])
    write_wheel(
        wheels, "needs-nothing-there", "1.0", {"nothing.py": ""}, requires=["no-such-project"]
    )
    write_wheel(wheels, "needs-eager", "1.0", {"eager.py": ""}, requires=["alpha", "beta"])
    write_wheel(wheels, "future", "1.0", {"future.py": ""}, metadata="Requires-Python: >=9\n")
    write_wheel(wheels, "foreign", "1.0", {"foreign.py": ""}, tag="cp27-cp27m-win32")
    write_project(root / "project", "delta", "4.0")
    write_project(root / "broken", "broken", "1.0", broken=True)
    write_project(root / "needy", "needy", "1.0", requires='["beta"]')
    sdists = root / "sdists"
    sdists.mkdir()
    write_sdist(sdists, root / "project", "delta", "4.0")
    _write_requirement_files(root)
    return root


def _write_requirement_files(root: Path) -> None:
    wheels = root / "wheels"
    good = _sha256(wheels / "beta-1.0-py3-none-any.whl")
    texts: Dict[str, str] = {
        "requirements.txt": "alpha==1.0  # pinned\nbeta<2\n",
        "editable.txt": f"-e {root}/project\nalpha\n",
        "project.txt": f"{root}/project\n",
        "nested.txt": f"-r requirements.txt\n--find-links {wheels}\ngamma ; python_version >= '3'\n",
        "settings.txt": f"{root}/project --config-settings one=1 -C 'two=a b'\nbeta==1.0\n",
        "constraints.txt": "beta==1.0\n",
        "contradiction.txt": "beta==1.0\nbeta==2.0\n",
        "pre.txt": "--pre\nalpha\n",
        "variable.txt": "${PROJECT}==1.0\n",
        "continued.txt": "alpha \\\n  ==1.0\n",
        "empty.txt": "# nothing\n",
        "unknown-option.txt": "--no-such-option\nbeta\n",
        "unreadable.txt": "beta ===\n",
        "good-hash.txt": f"beta==1.0 --hash=sha256:{good}\n",
        "bad-hash.txt": f"beta==1.0 --hash=sha256:{'0' * 64}\n",
        "names.txt": "alpha\nbeta\n",
        "script.py": '# /// script\n# dependencies = ["beta==1.0"]\n# ///\n',
        "pyproject.toml": '[dependency-groups]\nsome = ["beta==1.0"]\nmore = ["gamma", {include-group = "some"}]\n',
    }
    for name, text in texts.items():
        (root / name).write_text(text)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class PackageIndex:
    """The wheels as a simple index on loopback: `/simple/` for everybody, `/private/` with a
    password."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.redirect = ""  # where /private/redirected/ sends
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.index = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def host(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """No connection is accepted from now on."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    index: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self.do_GET()

    def do_GET(self) -> None:
        """A page or a file."""
        path = unquote(urlsplit(self.path).path)
        place, _, rest = path.strip("/").partition("/")
        if place == "private" and self.headers.get("Authorization") != _basic():
            self._send(401, b"who are you?", {"WWW-Authenticate": 'Basic realm="packages"'})
            return
        redirect = self.server.index.redirect  # type: ignore[attr-defined]
        if redirect and rest == "redirected":
            self._send(302, b"", {"Location": redirect})
            return
        body = self._find(rest) if place in ("simple", "private") else None
        if body is None:
            self._send(404, b"not here", {})
        else:
            self._send(
                200,
                body,
                {"Content-Type": "application/octet-stream" if ".whl" in path else "text/html"},
            )

    def _find(self, rest: str) -> Any:
        wheels = self.server.index.root / "wheels"  # type: ignore[attr-defined]
        if rest.startswith("files/"):
            path = wheels / rest[len("files/") :]
            return path.read_bytes() if path.is_file() else None
        name = rest.strip("/").replace("-", "_")
        files = sorted(wheels.glob("*.whl"))
        found = [
            path for path in files if path.name.split("-")[0].lower().replace(".", "_") == name
        ]
        if not name or not found:
            return None
        rows = [
            f'<a href="../files/{path.name}#sha256={_sha256(path)}">{path.name}</a>'
            for path in found
        ]
        return f"<!DOCTYPE html><html><body>{'<br>'.join(rows)}</body></html>".encode()

    def _send(self, status: int, body: bytes, headers: Dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _basic() -> str:
    return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
