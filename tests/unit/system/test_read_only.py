"""A command for which folders are read-only: really run, as this user and as one without rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from safe_install.system import read_only
from safe_install.system.read_only import Protection
from tests.namespaces import LIKE_DOCKER, need_landlock, need_mounts

WRITE = "import sys; open(sys.argv[1], 'w').close()"

pytestmark = [
    pytest.mark.real_process,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mount namespaces are Linux's"),
]


def run(protection, *command, **options):
    return subprocess.run(
        protection.wrap(command), capture_output=True, text=True, check=False, **options
    )


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "site packages"
    made.mkdir()
    need_mounts(made)
    return made


def test_the_command_cannot_write_there_and_can_elsewhere(folder, tmp_path):
    protection = Protection((folder,))
    refused = run(protection, sys.executable, "-c", WRITE, str(folder / "x"))
    assert refused.returncode == 1
    assert read_only.READ_ONLY_ERROR in refused.stderr
    assert run(protection, sys.executable, "-c", WRITE, str(tmp_path / "x")).returncode == 0
    # Nobody else sees it.
    (folder / "mine").touch()
    assert os.listdir(folder) == ["mine"]


def test_the_working_folder_is_read_only_too(folder):
    refused = run(Protection((folder,)), sys.executable, "-c", WRITE, "x", cwd=folder)
    assert read_only.READ_ONLY_ERROR in refused.stderr


def test_the_command_takes_the_place_of_the_process(folder):
    """Its streams, its exit status, its signals and its process id."""
    code = "import os, signal, sys; print(os.getpid(), sys.stdin.read(), signal.getsignal(signal.SIGPIPE)); sys.exit(7)"
    command = Protection((folder,)).wrap(["env", "-", sys.executable, "-I", "-c", code])
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    told, _ = process.communicate("hello")
    assert told.split()[:2] == [str(process.pid), "hello"]
    assert process.returncode == 7
    shell = Protection((folder,)).wrap(["sh", "-c", "kill -s PIPE $$"])
    assert subprocess.run(shell, check=False).returncode == -13


def test_where_it_cannot_be_had_the_command_runs_as_it_is(folder, tmp_path, monkeypatch):
    """As in Docker: neither mounts nor namespaces; and Landlock cannot keep TMPDIR and what lies
    below it apart."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    forbid = "import ctypes; ctypes.CDLL(None).prctl(24, 21)"  # PR_CAPBSET_DROP, CAP_SYS_ADMIN
    wrapped = Protection((folder,), in_user_namespace=False).wrap(
        [sys.executable, "-c", WRITE, str(folder / "x")]
    )
    code = f"{forbid}; import os; os.execvp({wrapped[0]!r}, {wrapped!r})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert (folder / "x").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_without_rights(tmp_path_factory, folder):
    """In a user namespace, in which the user is still the same one, and root is nobody."""
    python = "/usr/bin/python3"
    if not os.access(python, os.X_OK):
        pytest.skip("no Python that every user may start")
    place = Path("/tmp") / f"safe-install-test-{os.getpid()}"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    try:
        code = f"import os; print(os.getuid(), os.getgid())\n{WRITE}"
        command = Protection((place,)).wrap([python, "-c", code, str(place / "x")])
        become = "import json, os, sys; os.setgroups([]); os.setgid(4321); os.setuid(4321); c = json.loads(sys.argv[1])"
        words = [python, "-c", f"{become}; os.execvp(c[0], c)", json.dumps([python, *command[1:]])]
        answer = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
        assert answer.stdout.split() == ["4321", "4321"]
        if answer.returncode == 0:
            pytest.skip("no user namespaces here")
        assert read_only.READ_ONLY_ERROR in answer.stderr
    finally:
        for entry in place.iterdir():
            entry.unlink()
        place.rmdir()


def test_nothing_to_protect_is_no_process_more(tmp_path, monkeypatch):
    assert Protection().wrap(["a"]) == ["a"]
    assert Protection((tmp_path / "gone",)).wrap(["a"]) == ["a"]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert Protection((tmp_path,)).wrap(["a"]) == ["a"]


def test_ssh_that_refuses_in_a_user_namespace_runs_without_one(monkeypatch):
    from safe_install.system import pip, process

    orders = []

    def run(command, **options):
        orders.append(json.loads(command[5])["in_user_namespace"])
        refused = orders[-1]
        words = "Bad owner or permissions on /etc/ssh/ssh_config.d/20-x.conf" if refused else ""
        return process.Completed(command, int(refused), "", words, 0.0)

    monkeypatch.setattr(process, "run", run)
    runner = pip.PipRunner.__new__(pip.PipRunner)
    runner._protection = Protection((Path("/"),))
    assert runner._run_protected(["pip"], env={}).returncode == 0
    assert orders == [True, False]
    assert runner._run_protected(["pip"], env={}).returncode == 0
    assert orders == [True, False, False]


# --- Landlock: where neither mounts nor namespaces are to be had, as in Docker --------------------


@pytest.fixture
def ground(tmp_path):
    need_landlock()
    for name in ("env/lib/site/torch", "env/bin", "work", "tmp", "home"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "env/lib64").symlink_to("lib")
    return tmp_path


def run_like_docker(ground, code, written=("work",), **variables):
    protection = Protection(
        (ground / "env/lib/site", ground / "env/bin"), tuple(ground / name for name in written)
    )
    command = [
        sys.executable,
        str(LIKE_DOCKER),
        *protection.wrap([sys.executable, "-c", f"import os; {code}"]),
    ]
    env = {**os.environ, "TMPDIR": str(ground / "tmp"), "HOME": str(ground / "home"), **variables}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=str(ground), env=env
    )


@pytest.mark.parametrize(
    "code",
    [
        "open('env/lib/site/x', 'w')",
        "open('env/lib64/site/x', 'w')",
        "open('env/lib/site/six.py', 'r+')",
        "os.mkdir('env/bin/x')",
        "os.rename('env/lib/site/torch', 'env/lib/site/~orch')",
        "os.rename('env/lib/site', 'work/site')",
        "os.rename('work', 'env/lib/site/work')",
        "os.link('work/a', 'env/lib/site/a')",
        "os.remove('env/lib/site/six.py')",
        "os.rmdir('env/lib/site/torch')",
        "os.symlink('x', 'env/lib/site/y')",
        "os.truncate('env/lib/site/six.py', 0)",
        "os.system('exec 2>&-; touch env/bin/y') and open('env/bin/y', 'w')",
    ],
)
def test_landlock_keeps_from_writing(ground, code):
    (ground / "env/lib/site/six.py").write_text("x = 1\n")
    (ground / "work/a").touch()
    answer = run_like_docker(ground, code)
    assert answer.returncode == 1, answer.stderr
    assert read_only.NO_RIGHT_ERROR in answer.stderr
    assert sorted(os.listdir(ground / "env/lib/site")) == ["six.py", "torch"]
    assert (ground / "env/lib/site/six.py").read_text() == "x = 1\n"
    assert os.listdir(ground / "env/bin") == []


@pytest.mark.parametrize(
    "code",
    [
        "os.makedirs('work/a'); open('work/a/b', 'w'); os.rename('work/a/b', 'tmp/b'); "
        "os.link('tmp/b', 'home/c')",
        "open('/dev/null', 'w').write('x'); os.mkfifo('work/f')",
        "open('env/lib/site/six.py').read(); os.listdir('env/bin'); os.utime('work')",
        "import subprocess; subprocess.run(['sh', '-c', 'echo x > work/x'], check=True)",
    ],
)
def test_landlock_leaves_the_rest(ground, code):
    (ground / "env/lib/site/six.py").touch()
    answer = run_like_docker(ground, code)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    ("written", "variables"),
    [
        (("work", "."), {}),
        (("env/lib/site/torch",), {}),
        (("env/not-yet/there",), {}),
        ((), {"TMPDIR": "."}),
        ((), {"HOME": "."}),
        ((), {"PIP_CACHE_DIR": "env/cache"}),
    ],
)
def test_where_landlock_cannot_keep_folders_apart_the_command_runs_as_it_is(
    ground, written, variables
):
    paths = {name: str(ground / path) for name, path in variables.items()}
    answer = run_like_docker(ground, "open('env/lib/site/x', 'w')", written, **paths)
    assert answer.returncode == 0, answer.stderr


FOLDERS = (Path("/env/lib/site"), Path("/env/bin"))


@pytest.mark.parametrize(
    ("line", "is_attempt"),
    [
        ("OSError: [Errno 30] Read-only file system: '/env/lib/site/torch/version.py'", True),
        ("PermissionError: [Errno 13] Permission denied: '/env/bin/x'", True),
        (
            "  | ERROR: Could not install packages due to an OSError: [Errno 13] Permission "
            "denied: '/env/bin/'",
            True,
        ),
        ("cp: cannot create regular file '/env/lib/site/x': Read-only file system", True),
        ("rename /tmp/x -> /env/bin: Read-only file system", True),
        ("OSError: [Errno 30] Read-only file system: '/tmp/env/lib/site/x'", False),
        ("OSError: [Errno 30] Read-only file system: '/env/lib/site-packages/x'", False),
        ("OSError: [Errno 30] Read-only file system: '/env/.stage/env/lib/site/x'", False),
        ("OSError: [Errno 30] Read-only file system: '/usr/x'", False),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/env/lib/site/x'", False),
    ],
)
def test_what_a_build_says_of_its_attempt(line, is_attempt):
    found = read_only.find_write_attempt(f"building\n{line}\nfailed", FOLDERS)
    assert found == (line.strip() if is_attempt else None)
    assert read_only.find_write_attempt(line, ()) is None
