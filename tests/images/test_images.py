"""What people do with safe-install in a Dockerfile, really built."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest

from tests.images.buildah import Buildah, Container
from tests.images.conftest import GPU, for_the_lab, lab_arguments, read_dockerfile, serve_torch
from tests.lab.wheels import write_wheel

pytestmark = [pytest.mark.slow, pytest.mark.long]

TORCH = "torch==2.4.1"  # the stand-in: for CUDA 12.1
CUDA = "import torch; print('torch', torch.__version__, torch.cuda.is_available())"


@pytest.fixture(scope="module")
def build(
    buildah, host, wheels, zipapp, tmp_path_factory
) -> Callable[..., subprocess.CompletedProcess]:
    """Build an image from the text of a Dockerfile; the stand-in wheels are in /wheels
    meanwhile."""

    def run(tag: str, text: str, **files: str) -> subprocess.CompletedProcess:
        words = prepare(tag, text, **files)
        return buildah.call(*words)

    def prepare(tag: str, text: str, **files: str):
        context = tmp_path_factory.mktemp(tag)
        shutil.copy(zipapp, context / "safe-install.pyz")
        (context / "Dockerfile").write_text(text)
        for name, content in files.items():
            (context / name).write_text(content)
        return buildah.build_words(
            tag, context, arguments=lab_arguments(host), volumes=[f"{wheels.index}:/wheels:ro"]
        )

    run.prepare = prepare
    return run


@pytest.fixture(scope="module")
def must_build(build) -> Callable[..., str]:
    """A build that has to succeed; what it printed."""

    def run(tag: str, text: str, **files: str) -> str:
        done = build(tag, text, **files)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


@pytest.fixture
def start(buildah: Buildah) -> Iterator[Callable[[str], Container]]:
    """Containers that are removed behind the test."""
    started = []

    def run(image: str) -> Container:
        started.append(buildah.start(image))
        return started[-1]

    yield run
    for container in started:
        container.remove()


# --- the Dockerfile of the documentation ----------------------------------------------------------


@pytest.fixture(scope="module")
def app(must_build, host, tmp_path_factory) -> str:
    """What building the documented Dockerfile printed; the image is `app`."""
    text = read_dockerfile()
    serve_torch(text, host, tmp_path_factory.mktemp("torch"))
    return must_build("app", for_the_lab(text, host))


def test_the_documented_build_says_what_was_not_asked(app):
    assert "Successfully installed torch-scatter-" in app
    assert "there is no driver here: CUDA and the GPU code of the extensions were not tried" in app
    assert "verify --require-cuda" in app


@pytest.mark.parametrize(
    ("variables", "status", "words"),
    [
        (None, 1, "there is no NVIDIA driver here"),
        (GPU, 0, "CUDA: available"),
        (
            {**GPU, "FAKE_DRIVER": "520.61.05", "FAKE_DRIVER_CUDA": "11.8"},
            1,
            "520.61.05 (CUDA 11.8) is installed",
        ),
    ],
    ids=["no driver", "driver", "driver that is too old"],
)
def test_the_documented_image_checks_itself_at_its_start(
    app, buildah, start, driver, variables: Any, status: int, words: str
):
    configuration = buildah.configuration("app")
    container = start("app")
    options: Dict[str, Any] = {"variables": variables, "volumes": driver} if variables else {}
    started = container.run(*configuration["Entrypoint"], "/app/bin/python", "-c", CUDA, **options)
    assert started.returncode == status, started.stdout
    assert words in started.stdout
    assert started.stdout.rstrip().endswith(" True") == (status == 0)
    kind, *command = configuration["Healthcheck"]["Test"]
    assert (kind, container.run(*command, **options).returncode) == ("CMD", status)


def test_a_start_changes_nothing_and_needs_no_home(app, buildah, start):
    container = start("app")
    root = container.mount()
    before = sorted(path for path in os.listdir(root / "root") if path != ".cache")
    command = buildah.configuration("app")["Healthcheck"]["Test"][1:]
    started = container.run(
        "/bin/sh", "-c", 'unset HOME; cd /tmp; exec "$@"', "--", *command, user="12345:12345"
    )
    assert "there is no NVIDIA driver here" in started.stdout
    assert sorted(os.listdir(root / "root")) == before
    assert not list((root / "tmp").iterdir())


def test_nothing_of_ours_is_left_but_what_an_undo_needs(app, start):
    found = start("app").shell(
        "find / -xdev -name '*safe*install*' -not -path '/proc/*' -o -name .cache"
    )
    assert sorted(found.split()) == ["/app/.safe-install", "/opt/safe-install.pyz"]


# --- layers ---------------------------------------------------------------------------------------

HERE = "safe-install install --no-index --find-links /wheels"


@pytest.fixture(scope="module")
def base(must_build) -> str:
    """A virtual environment with torch, and safe-install on PATH."""
    must_build(
        "base",
        f"""
FROM python:3.11-slim
COPY --chmod=755 safe-install.pyz /usr/local/bin/safe-install
RUN python -m venv /app && /app/bin/pip install --quiet --no-index --find-links /wheels {TORCH} && useradd -m app
ENV PATH=/app/bin:$PATH
""",
    )
    return "base"


@pytest.fixture(scope="module")
def warm(base, must_build) -> str:
    """The same, in which root has used the program: it is unpacked and compiled, once for all."""
    other = "cp -a /app /other && safe-install --python /other"
    use = HERE.replace("safe-install", other, 1)
    must_build("warm", f"FROM base\nRUN {use} numpy==1.26.4 && rm -rf /other\n")
    return "warm"


@pytest.fixture(scope="module")
def layered(warm, must_build) -> str:
    """Two changes, in two layers."""
    must_build("first", f"FROM warm\nRUN {HERE} numpy==1.26.4\n")
    must_build("second", f"FROM first\nRUN {HERE} numpy==2.0.0 xgboost\n")
    return "second"


LIST = "pip list --format freeze"


def test_undo_in_a_later_layer(layered, must_build):
    out = must_build(
        "undone", f"FROM second\nRUN safe-install undo && {LIST} && safe-install undo && {LIST}\n"
    )
    assert "Undone:" in out
    first, second = out.split("Undone:")[1:]
    assert "numpy==1.26.4" in first and "xgboost" not in first.split("pip==")[1]
    assert "numpy==" not in second
    # What an undo brought back can be taken away again, one layer later.
    out = must_build(
        "redone",
        "FROM undone\nRUN safe-install undo $(safe-install history | cut -c1-23 | head -1) && "
        f"{LIST}\n",
    )
    assert "numpy==1.26.4" in out


def test_a_harmful_layer_ends_the_build(layered, build, buildah):
    done = build("harmful", f"FROM second\nRUN {HERE} torch==1.8.1+cu111 sneaky-tools\n")
    assert done.returncode == 12, done.stdout
    assert "is exactly as it was." in done.stdout
    assert buildah.call("inspect", "--type", "image", "harmful").returncode != 0


def test_the_history_of_lower_layers_is_pruned(layered, must_build):
    out = must_build(
        "pruned",
        "FROM second\nRUN safe-install history --prune --keep 0 && ls -A /app/.safe-install && "
        "safe-install history\n",
    )
    assert out.count("\nremoved 2") == 2
    assert "warning" not in out
    assert "\nlock\nmarker\nrecover.py\nsources.json\nNo transactions in /app." in out


# --- users ----------------------------------------------------------------------------------------

USERS = {
    "its owner": ("app", {}, ""),
    "without HOME": ("app", {"HOME": ""}, ""),
    "the home of root": ("app", {"HOME": "/root"}, "the cache is a temporary folder"),
    "no home": ("app", {"HOME": "/nonexistent"}, "the cache is a temporary folder"),
    "a uid without an entry": ("12345:12345", {}, "the cache is a temporary folder"),
}


@pytest.mark.parametrize(("user", "variables", "words"), USERS.values(), ids=USERS.keys())
def test_another_user(base, start, host, user: str, variables: Dict[str, str], words: str):
    container = start("base")
    container.shell(f"chown -R {user.partition(':')[0]} /app && mkdir /work && chmod 777 /work")
    home = "unset HOME; " if variables.get("HOME") == "" else ""
    script = f"{home}cd /work; safe-install install --no-build torch-scatter 2>&1; ls -A /work /tmp"
    out = container.shell(script, user=user, variables={**lab_arguments(host), **variables})
    assert "Successfully installed torch-scatter" in out
    assert out.endswith("/tmp:\n\n/work:\n"), out
    assert ("temporary folder" in out) == bool(words)
    owner = container.shell(
        "stat -c %u /app/.safe-install /app/lib/python3*/site-packages/torch_scatter/__init__.py"
    )
    assert len(set(owner.split())) == 1


def test_the_system_python_and_the_user_site(start, wheels, buildah, zipapp):
    container = start("debian:12")
    buildah.must(
        "copy",
        "--quiet",
        "--chmod",
        "755",
        container.name,
        str(zipapp),
        "/usr/local/bin/safe-install",
    )
    container.shell("useradd -m app")
    options = {"volumes": [f"{wheels.index}:/wheels:ro"]}
    refused = container.run("/bin/sh", "-c", f"{HERE} numpy==1.26.4", **options)
    assert refused.returncode == 1
    assert "externally-managed-environment" in refused.stdout
    out = container.shell(
        f"{HERE} --break-system-packages --user numpy==1.26.4", user="app", **options
    )
    assert "Successfully installed numpy-1.26.4" in out
    out = container.shell(
        "python3 -c 'import numpy; print(numpy.__file__)'; safe-install undo --user", user="app"
    )
    assert "/home/app/.local/" in out and "Undone" in out


# --- pip is safe-install --------------------------------------------------------------------------

BY_NAME = "RUN mkdir /opt/pip && ln -s /usr/local/bin/safe-install /opt/pip/pip\nENV PATH=/opt/pip:$PATH\n"
BASH = 'SHELL ["/bin/bash", "-c"]\n'
FUNCTION = 'pip() { safe-install "$@"; }\nexport -f pip\n'
ALIASES = {
    "a folder in front of PATH": (BY_NAME, "", True),
    "BASH_ENV": (
        f"{BASH}ENV BASH_ENV=/etc/pip.bash\nRUN echo 'shopt -s expand_aliases; alias "
        "pip=safe-install' > $BASH_ENV\n",
        "",
        True,
    ),
    "sh, alias": ("", "#!/bin/sh\nset -e\nalias pip=safe-install\n", True),
    "bash, alias that is not expanded": (
        "",
        "#!/bin/bash\nset -e\nalias pip=safe-install\n",
        False,
    ),
    "bash, expand_aliases": (
        "",
        "#!/bin/bash\nset -e\nshopt -s expand_aliases\nalias pip=safe-install\n",
        True,
    ),
    "bash, function": ("", f"#!/bin/bash\nset -e\n{FUNCTION}", True),
}


@pytest.mark.parametrize(("lines", "script", "is_guarded"), ALIASES.values(), ids=ALIASES.keys())
def test_a_setup_script_that_says_pip(warm, must_build, lines: str, script: str, is_guarded: bool):
    # buildah may lose what a RUN prints right before it ends (seen: one of 150), so it waits.
    commands = (
        "pip install --no-index --find-links /wheels numpy==1.26.4\n"
        "pip history && echo guarded && sleep 1\n"
    )
    if script:
        out = must_build(
            "said",
            "FROM warm\nCOPY setup /setup\nRUN chmod +x /setup && /setup || true\n",
            setup=script + commands,
        )
    else:
        run = " && ".join(commands.strip().splitlines())
        out = must_build("said", f"FROM warm\n{lines}RUN {run} || true\n")
    assert "Successfully installed numpy-1.26.4" in out
    assert out.splitlines().count("guarded") == int(is_guarded), out


# --- caches, and builds that are cancelled --------------------------------------------------------

MOUNT = "RUN --mount=type=cache,target=/root/.cache"
SCATTER = "safe-install install --no-build torch-scatter"


def test_a_cache_mount_serves_the_next_build_and_leaves_nothing(base, must_build, start, host):
    text = f"FROM base\nARG SAFE_INSTALL_MIRRORS\n{MOUNT} --mount=type=cache,target=/root/.local {SCATTER}\n"
    must_build("cached", text)
    assert not (start("cached").mount() / "root" / ".cache" / "torch-safe-install").exists()
    asked = len(host.requests)
    must_build("cached", text)
    assert len(host.requests) == asked


def test_a_cancelled_build_leaves_no_image_and_a_cache_that_works(
    base, build, must_build, buildah, host
):
    text = f"FROM base\nARG SAFE_INSTALL_MIRRORS\n{MOUNT} {SCATTER}\n"
    shutil.rmtree(buildah.temporary / "buildah-cache", ignore_errors=True)
    host.misbehave("torch_scatter-", "drip")
    seen = len(host.asked("torch_scatter-"))
    try:
        running = subprocess.Popen(
            buildah.command(*build.prepare("cancelled", text)),
            env=buildah.variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while len(host.asked("torch_scatter-")) == seen:
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(60) != 0
    finally:
        host.behave()
    assert buildah.call("inspect", "--type", "image", "cancelled").returncode != 0
    assert "Successfully installed torch-scatter" in must_build("after", text)


# --- the Dockerfile that `export` writes ----------------------------------------------------------


def put_pip(host, folder):
    """The pip beside the tests on the index of the host: one that reads lock files."""
    distribution = metadata.distribution("pip")
    files = {}
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file)))
        if file.parts[0] == "pip" and path.suffix != ".pyc":
            files[file.as_posix()] = path.read_bytes()
    wheel = write_wheel(folder, "pip", distribution.version, files)
    host.put(f"/served/{wheel.name}", wheel.read_bytes())
    link = f'<a href="{host.url}/served/{wheel.name}">{wheel.name}</a>'
    host.put("/pypi/simple/pip/", link.encode(), content_type="text/html")


def test_the_dockerfile_of_an_export(
    buildah, must_build, build, start, host, wheels, driver, zipapp, tmp_path
):
    """Its lock file, its wheels and the zipapp beside it, and nothing else of that machine: the same
    environment on an image of the name that it says."""
    must_build(
        "origin",
        f"""
FROM python:3.11-slim
COPY --chmod=755 safe-install.pyz /usr/local/bin/safe-install
RUN python -m venv /app
ENV PATH=/app/bin:$PATH
RUN {HERE} {TORCH} numpy==1.26.4
""",
    )
    container = start("origin")
    exports = (
        "mkdir /out; cd /out; safe-install export --offline -o pylock.toml --wheels wheels; "
        "safe-install export --offline -o Dockerfile --wheels wheels"
    )
    container.shell(exports, volumes=[f"{wheels.index}:/wheels:ro"])
    context = tmp_path / "context"
    shutil.copytree(container.mount() / "out", context)
    shutil.copy(zipapp, context / "safe-install.pyz")
    text = (context / "Dockerfile").read_text()
    (image,) = re.findall(r"^FROM (python:3\.11\.\d+-slim-bookworm)$", text, re.M)

    # What the image of that name has: a Python of its own, with pip, in front of PATH.
    must_build("named", "FROM python:3.11-slim\nRUN python -m venv /usr/local\n")
    buildah.must("tag", "named", f"docker.io/library/{image}")
    put_pip(host, tmp_path)
    index = f"FROM {image}\nENV PIP_INDEX_URL={host.index_url}"
    (context / "Dockerfile").write_text(text.replace(f"FROM {image}", index))
    out = buildah.must(*buildah.build_words("exported", context))
    assert "torch 2.4.1" in out

    command = buildah.configuration("exported")["Cmd"]
    made = start("exported")
    assert "there is no NVIDIA driver here" in made.run(*command).stdout
    checked = made.run(*command, variables=GPU, volumes=driver)
    assert checked.returncode == 0, checked.stdout
    tools = ("pip==", "setuptools==")  # which each environment has of its own
    there, again = (
        [line for line in one.shell(f"python -m {LIST}").split() if not line.startswith(tools)]
        for one in (container, made)
    )
    assert again == there
    assert "numpy==1.26.4" in there
