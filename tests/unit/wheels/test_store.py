"""The store hands out a wheel only to the torch, Python, platform and GPUs that it was built
for."""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
from pathlib import Path

import pytest
from packaging.tags import Tag
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.errors import HashMismatch
from safe_install.events import Reporter
from safe_install.folders import NOWHERE
from safe_install.models import BuiltFor, CandidateKind, Device, Driver, TorchBuild
from safe_install.tags import supported_tags
from safe_install.wheels import store as store_module
from safe_install.wheels.archive import open_wheel
from safe_install.wheels.fetch import fetch
from safe_install.wheels.store import (
    WheelStore,
    choose_cache,
    find_cache,
    make_key,
    make_record,
    read_switches,
    remove_all_but_logs,
)
from tests.factories import make_environment, make_interpreter
from tests.unit.wheels.crafted import METADATA, make_wheel

CPU = TorchBuild(Version("2.13.0+cpu"), "2.13.0+cpu", "cpu", None, None, True, "cf30153c1234")
CUDA = TorchBuild(Version("2.15.0"), "2.15.0+cu132", "cu132", "13.2", None, True, "aaaabbbbcccc")


def make_env(torch=CPU, *, gpus=(), **interpreter):
    devices = tuple(Device("GPU", capability) for capability in gpus)
    driver = Driver("580.1", "13.2", devices) if gpus else None
    environment = make_environment(interpreter=make_interpreter(**interpreter), driver=driver)
    return dataclasses.replace(environment, torch=torch)


def keep(store, folder, environment, *, architectures=(), version="1.0"):
    folder.mkdir(parents=True, exist_ok=True)
    artifact = open_wheel(
        make_wheel(
            folder,
            filename=f"demo-{version}-cp311-cp311-linux_x86_64.whl",
            dist_info=f"demo-{version}.dist-info",
            metadata=METADATA.replace("1.0", version),
        )
    )
    record = make_record(
        artifact,
        environment,
        architectures=architectures,
        sdist=Path(f"demo-{version}.tar.gz"),
        sdist_sha256="ab" * 32,
        tools=("setuptools<81",),
        seconds=1.23,
        log=folder / "log",
    )
    return store.add(artifact, record, environment)


@pytest.fixture
def store(tmp_path):
    return WheelStore(tmp_path / "cache")


@pytest.mark.parametrize(
    ("variables", "switches"),
    [
        ({}, ()),
        ({"MMCV_WITH_OPS": "0", "FORCE_ONLY_CPU": "1"}, ("FORCE_ONLY_CPU=1", "MMCV_WITH_OPS=0")),
        ({"FLASH_ATTENTION_SKIP_CUDA_BUILD": "TRUE"}, ("FLASH_ATTENTION_SKIP_CUDA_BUILD=TRUE",)),
        (
            {"DS_BUILD_FUSED_ADAM": "1", "USE_CUDA": "off"},
            ("DS_BUILD_FUSED_ADAM=1", "USE_CUDA=off"),
        ),
        ({"BUILD_ID": "4711", "BUILD_URL": "https://ci"}, ()),
        ({"NO_COLOR": "1", "PIP_NO_INPUT": "1", "UV_NO_CACHE": "1", "FORCE_CUDA": "1"}, ()),
        ({"MAX_JOBS": "1", "PATH": "/bin", "HOME": "1"}, ()),
    ],
)
def test_what_a_person_turns_on_or_off(variables, switches):
    assert read_switches(variables) == switches


def test_a_wheel_that_was_built_with_other_switches_is_another_one(tmp_path):
    cache, env = tmp_path / "cache", make_env(CUDA, gpus=["9.0"])
    only_cpu = WheelStore(cache, ("FORCE_ONLY_CPU=1",))
    path = keep(only_cpu, tmp_path / "w", env, architectures=("9.0",))
    whole = WheelStore(cache, ())
    name, version = canonicalize_name("demo"), Version("1.0")
    assert list(whole.find(name, env)) == []
    assert whole.select(name, version, env, architectures=("9.0",)) is None
    assert not whole.may_have(name, version, env)
    other = keep(whole, tmp_path / "w2", env, architectures=("9.0",))
    assert other != path
    assert only_cpu.select(name, version, env, architectures=("9.0",)) == path
    assert whole.select(name, version, env, architectures=("9.0",)) == other
    of_any = [one.link.url for one in WheelStore(cache).find(name, env)]
    assert sorted(of_any) == sorted([path.as_uri(), other.as_uri()])


def test_a_built_wheel_comes_back_as_a_candidate(store, tmp_path):
    path = keep(store, tmp_path / "w", make_env())
    (candidate,) = store.find("demo", make_env())
    assert candidate.kind is CandidateKind.BUILT
    assert (candidate.name, candidate.version) == ("demo", Version("1.0"))
    assert candidate.tags == {Tag("cp311", "cp311", "linux_x86_64")}
    assert candidate.built_for == BuiltFor("2.13.0", "cpu", True)
    assert candidate.link.found_in == "built here"
    assert fetch(candidate, http=None, cache=tmp_path, reporter=Reporter()) == path
    assert store.select("demo", Version("1.0"), make_env(), architectures=()) == path
    assert store.select("demo", Version("1.1"), make_env(), architectures=()) is None


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data + b"x", lambda data: b""]
)
def test_a_wheel_damaged_in_the_store_is_dropped(store, tmp_path, damage):
    """Cut off by a full disk, or by what clears caches: it is built again, and not refused."""
    path = keep(store, tmp_path / "w", make_env())
    path.write_bytes(damage(path.read_bytes()))
    assert list(store.find("demo", make_env())) == []
    assert [entry.name for entry in path.parent.iterdir() if "whl" in entry.name] == []
    keep(store, tmp_path / "w", make_env())
    path.write_bytes(b"")
    assert store.select("demo", Version("1.0"), make_env(), architectures=()) is None
    assert keep(store, tmp_path / "w", make_env()) == path
    assert len(list(store.find("demo", make_env()))) == 1


def test_a_wheel_damaged_after_it_was_chosen_is_found_out_on_use(store, tmp_path):
    path = keep(store, tmp_path / "w", make_env())
    (candidate,) = store.find("demo", make_env())
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(HashMismatch):
        fetch(candidate, http=None, cache=tmp_path, reporter=Reporter())


def test_newer_versions_come_first(store, tmp_path):
    for version in ("1.9", "1.10", "1.2"):
        keep(store, tmp_path / "w", make_env(), version=version)
    assert [str(c.version) for c in store.find("demo", make_env())] == ["1.10", "1.9", "1.2"]


@pytest.mark.parametrize(
    ("other", "found"),
    [
        pytest.param(make_env(), True, id="the same"),
        pytest.param(make_env(prefix=Path("/elsewhere")), True, id="another environment"),
        pytest.param(make_env(libc=("glibc", "2.40")), True, id="newer libc"),
        pytest.param(make_env(libc=("glibc", "2.31")), False, id="older libc"),
        pytest.param(make_env(libc=("musl", "1.2")), False, id="other libc"),
        pytest.param(make_env(version="3.12.1"), False, id="other Python"),
        pytest.param(make_env(abiflags="t"), False, id="free-threaded Python"),
        pytest.param(make_env(platform="linux_aarch64"), False, id="other machine"),
        pytest.param(
            make_env(dataclasses.replace(CPU, runtime_version="2.13.1+cpu")),
            False,
            id="other torch",
        ),
        pytest.param(
            make_env(dataclasses.replace(CPU, git_version="0000")),
            False,
            id="same name, other torch",
        ),
        pytest.param(
            make_env(dataclasses.replace(CPU, cxx11_abi=False)), False, id="other C++ ABI"
        ),
        pytest.param(make_env(CUDA), False, id="CUDA torch"),
        pytest.param(make_env(None), False, id="no torch"),
    ],
)
def test_a_wheel_is_for_one_torch_build(store, tmp_path, other, found):
    keep(store, tmp_path / "w", make_env())
    assert bool(list(store.find("demo", other))) is found


@pytest.mark.parametrize(
    ("built_for", "asked", "found"),
    [
        ("a" * 64, "a" * 64, True),
        ("a" * 64, "b" * 64, False),  # another build of the same version
        # was built for an installed torch: whether that is the same one is not known
        (None, "a" * 64, False),
        ("a" * 64, None, False),  # pip has not named the file
    ],
)
def test_a_torch_that_is_only_planned_is_known_by_its_file(
    store, tmp_path, built_for, asked, found
):
    """Its commit and its C++ ABI stand in its files alone."""
    unpacked = dataclasses.replace(CPU, folder=tmp_path, file=built_for)
    keep(store, tmp_path / "w", make_env(unpacked))
    planned = TorchBuild(Version("2.13.0+cpu"), "2.13.0+cpu", "cpu", file=asked)
    assert bool(list(store.find("demo", make_env(planned)))) is found
    assert list(store.find("demo", make_env())), "an installed one of the same build has it, too"


@pytest.mark.parametrize(
    ("built", "gpus", "found"),
    [
        (("8.0",), ("8.0",), True),
        (("8.0",), ("8.6",), True),
        (("8.6",), ("8.0",), False),
        (("8.0",), ("9.0",), False),
        (("8.0+PTX",), ("9.0",), True),
        (("9.0+PTX",), ("8.0",), False),
        (("8.0", "9.0"), ("8.0", "9.0"), True),
        (("8.0",), ("8.0", "9.0"), False),
        (("10.0",), ("9.0",), False),
        # Code for the features of one architecture, or of one family, as machine code and as PTX.
        (("9.0a",), ("9.0",), True),
        (("10.0a",), ("10.3",), False),
        (("9.0a+PTX",), ("9.0",), True),
        (("9.0a+PTX",), ("10.0",), False),
        (("10.0f",), ("10.3",), True),
        (("10.3f",), ("10.0",), False),
        (("10.0f+PTX",), ("12.0",), False),
        (("8.0+ptx",), ("9.0",), True),
        (("Ampere",), ("9.0",), True),  # a name: only the check of the GPU code can see
        (("8.0",), (), True),
    ],
)
def test_every_gpu_must_be_served(store, tmp_path, built, gpus, found):
    keep(store, tmp_path / "w", make_env(CUDA), architectures=built)
    assert bool(list(store.find("demo", make_env(CUDA, gpus=gpus)))) is found


def test_a_build_without_gpu_code_is_not_for_a_cuda_torch(store, tmp_path):
    keep(store, tmp_path / "w", make_env(CUDA))
    assert list(store.find("demo", make_env(CUDA))) == []


def test_a_wheel_without_a_whole_record_does_not_exist(store, tmp_path):
    path = keep(store, tmp_path / "w", make_env())
    record = Path(f"{path}.json")
    raw = json.loads(record.read_text())
    for text in (
        "",
        "{",
        json.dumps({**raw, "format": 2}),
        json.dumps({**raw, "unknown": 1}),
        "[]",
    ):
        record.write_text(text)
        assert list(store.find("demo", make_env())) == []
    record.write_text(json.dumps(raw))
    assert len(list(store.find("demo", make_env()))) == 1


def test_a_second_build_replaces_the_first(store, tmp_path):
    first = keep(store, tmp_path / "a", make_env())
    assert keep(store, tmp_path / "b", make_env()) == first
    assert sorted(p.name for p in first.parent.iterdir()) == [first.name, f"{first.name}.json"]


def test_keys_are_readable_and_safe():
    assert make_key(make_env()) == "torch2.13.0+cpu-cf30153c-cxx11-cp311-linux_x86_64"
    odd = dataclasses.replace(CPU, runtime_version="2.8.0a0+../x", git_version=None, cxx11_abi=None)
    assert make_key(make_env(odd)) == "torch2.8.0a0+.._x-cp311-linux_x86_64"


def test_the_cache_folder_can_be_chosen():
    assert find_cache({"SAFE_INSTALL_CACHE_DIR": "/data/cache"}) == Path("/data/cache")
    assert find_cache({}).name == "torch-safe-install"


def test_a_cache_that_can_be_written_is_taken_as_it_is(tmp_path):
    named = {"SAFE_INSTALL_CACHE_DIR": str(tmp_path / "not" / "yet")}
    assert choose_cache(named) == (tmp_path / "not" / "yet", "")
    assert not (tmp_path / "not").exists()


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    monkeypatch.setattr(store_module, "find_cache_folder", lambda: NOWHERE)
    cache, problem = choose_cache({})
    assert problem == "HOME is not set, and this user has no home"
    assert_emptied(cache)


def test_a_cache_that_cannot_be_written_is_replaced(tmp_path, monkeypatch):
    # root may write everywhere: the question is answered for another user.
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path))
    cache, problem = choose_cache({"SAFE_INSTALL_CACHE_DIR": str(tmp_path / "cache")})
    assert problem == f"{tmp_path} cannot be written by this user"
    assert not (tmp_path / "cache").exists()
    assert_emptied(cache)


def assert_emptied(cache):
    """A temporary cache goes, and the logs that a message may name stay."""
    assert cache.is_dir()
    for folder in ("downloads/a", "logs"):
        (cache / folder).mkdir(parents=True)
        (cache / folder / "file").write_text("")
    (cache / "limits.json").write_text("")
    remove_all_but_logs(cache)
    assert [path.name for path in cache.iterdir()] == ["logs"]
    (cache / "logs" / "file").unlink()
    (cache / "logs").rmdir()
    remove_all_but_logs(cache)
    assert not cache.exists()
    atexit.unregister(remove_all_but_logs)


@pytest.mark.parametrize(
    ("torch", "version", "interpreter", "may_have"),
    [
        ("2.13.0+cpu", "1.0", {}, True),
        ("2.13.0+cpu", "1.1", {}, False),
        ("2.13.1+cpu", "1.0", {}, False),
        ("2.13.0+cu130", "1.0", {}, False),
        ("2.13.0+cpu", "1.0", {"version": "3.12.1"}, False),
        ("2.13.0+cpu", "1.0", {"libc": ("glibc", "2.31")}, False),
    ],
)
def test_what_may_be_for_a_torch_that_is_only_planned(
    store, tmp_path, torch, version, interpreter, may_have
):
    """It was built beside an installed one; which build comes, its files tell."""
    keep(store, tmp_path / "w", make_env())
    minor = interpreter.get("version", "3.11")[:4]
    tags = supported_tags(minor, "cpython", "linux_x86_64", ("glibc", "2.36"))
    planned = TorchBuild(Version(torch), torch, torch.partition("+")[2])
    environment = make_env(planned, tags=tags, **interpreter)
    assert store.may_have("demo", Version(version), environment) is may_have
    assert list(store.find("demo", environment)) == []
