"""One real install from every kind of host: its page, its names, its redirects, pip, the swap, the
check after.

torch is the stand-in 2.4.1+cu121 without a driver, as in an image build; the wheels are real files
with a real library.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.functional.conftest import Environment, need_python
from tests.lab.wheels import _link, write_wheel
from tests.wheelhost import WheelHost

TORCH = "torch==2.4.1"
TAG = "cp311-cp311-linux_x86_64"
FLASH = "https://github.com/Dao-AILab/flash-attention"
# What the small operation of the wheel index calls, as little of it as that.
NMS = "import torch\n\n\ndef nms(boxes, scores, threshold):\n    return {answer}\n"
SOURCES = {
    "mmcv": {"mmcv/__init__.py": "", "mmcv/ops.py": NMS.format(answer="boxes, torch.tensor([0])")},
    "torchvision": {
        "torchvision/__init__.py": "from . import ops\n",
        "torchvision/ops.py": NMS.format(answer="torch.tensor([0])"),
    },
    "torchdata": {
        "torchdata/__init__.py": "",
        "torchdata/stateful_dataloader.py": "def StatefulDataLoader(items, batch_size):\n    return items\n",
    },
    "pytorch3d": {
        "pytorch3d/__init__.py": "",
        "pytorch3d/ops.py": "import types, torch\n\n\ndef knn_points(one, two, K):\n"
        "    return types.SimpleNamespace(idx=torch.tensor([[[1]]]))\n",
    },
}


@pytest.fixture
def host():
    with WheelHost() as running:
        yield running


def online(host):
    return {
        "SAFE_INSTALL_MIRRORS": host.mirrors,
        "PIP_NO_INDEX": "",
        "PIP_INDEX_URL": host.index_url,
    }


@pytest.fixture
def environment(make_environment, host) -> Environment:
    need_python("3.11")
    made = make_environment("3.11", TORCH, **online(host))
    # Without the stub driver: there is no GPU to ask, and an image is built all the same.
    for name in ("LD_LIBRARY_PATH", "PATH"):
        kept = [part for part in made.variables.get(name, "").split(":") if "/driver" not in part]
        made.variables[name] = ":".join(kept)
    return made


def make_wheel(
    folder: Path, project: str, version: str, *, tag: str = TAG, native: str = "", renamed: str = ""
) -> bytes:
    """A wheel with a module, and with a library where the project has one; `renamed`: as METADATA
    has its version."""
    module = project.replace("-", "_")
    files = dict(SOURCES.get(project, {f"{module}/__init__.py": ""}))
    if native:
        files[native] = _link(folder / "made.so", exports=[f"{module}_works"]).read_bytes()
    written = write_wheel(folder / "wheels", project, renamed or version, files, tag=tag)
    return written.read_bytes()


def install(environment: Environment, *words: str, **variables: str):
    before = environment.versions()
    document = environment.document("install", *words, **variables)
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document["error"]
    added = sorted(set(environment.versions()) - set(before))
    assert environment.ask("import torch; print(torch.__version__)") == "2.4.1+cu121"
    return document, added


def test_folders_by_torch_and_cuda(environment, host, tmp_path):
    name = f"mmcv-2.2.0-{TAG}.whl"
    folder = "https://download.openmmlab.com/mmcv/dist/cu121/torch2.4.0"
    native = "mmcv/_ext.cpython-311-x86_64-linux-gnu.so"
    host.put_file(f"{folder}/{name}", make_wheel(tmp_path, "mmcv", "2.2.0", native=native))
    host.add_anchors(f"{folder}/index.html", [f"./{name}"])
    document, added = install(environment, "mmcv")
    assert added == ["mmcv==2.2.0"]
    assert document["plan"]["steps"][0]["url"] == f"{folder}/{name}"
    assert document["after"]["operations"]["mmcv on cpu"]["ok"] is True


def test_an_asset_that_was_renamed_after_its_build(environment, host, tmp_path):
    """pip refuses such a file from a page, and takes it by its address: that is recorded.

    The version is one that the wheel index does not know: of those that it knows, it knows the
    bytes.
    """
    version = "2.8.4+cu12torch2.4cxx11abiFALSE"
    native = "flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so"
    wheel = make_wheel(tmp_path, "flash-attn", version, native=native, renamed="2.8.4")
    host.add_release(
        "Dao-AILab/flash-attention", "v2.8.4", {f"flash_attn-{version}-{TAG}.whl": wheel}
    )
    document, added = install(environment, "flash-attn")
    assert added == ["flash_attn==2.8.4"] or added == ["flash-attn==2.8.4"]
    step = document["plan"]["steps"][0]
    assert (
        step["url"]
        == f"{FLASH}/releases/download/v2.8.4/flash_attn-{version.replace('+', '%2B')}-{TAG}.whl"
    )
    assert host.asked("github-assets"), "the download is redirected to another host"
    (recorded,) = environment.site.glob("flash_attn*/direct_url.json")
    assert json.loads(recorded.read_text())["url"] == step["url"]
    again = environment.document("install", "-U", "flash-attn")
    assert (again["exit_code"], again["outcome"]) == (0, "already-satisfied")


def test_assets_without_the_api(environment, host, tmp_path):
    version = "1.5.4+cu12torch2.4cxx11abiFALSE"
    native = "causal_conv1d_cuda.cpython-311-x86_64-linux-gnu.so"
    wheel = make_wheel(tmp_path, "causal-conv1d", version, native=native, renamed="1.5.4")
    host.add_release(
        "Dao-AILab/causal-conv1d",
        "v1.5.4",
        {f"causal_conv1d-{version}-{TAG}.whl": wheel},
        digests=False,
    )
    host.misbehave("/github-api/", "limit")
    document, _ = install(environment, "causal-conv1d")
    assert "GitHub's API refused" in document["plan"]["hosts"][0]["detail"]
    # No hash was promised: the first sight of the file was recorded, and another one behind its
    # address is refused.
    environment.safe_install("undo")
    (asset,) = [path for path in host.answers if path.startswith("/github-assets/")]
    host.put(asset, make_wheel(tmp_path / "other", "causal-conv1d", version, renamed="1.5.4"))
    for cached in (Path(environment.variables["SAFE_INSTALL_CACHE_DIR"]) / "downloads").rglob(
        "*.whl"
    ):
        cached.unlink()
    changed = environment.document("install", "causal-conv1d")
    assert changed["exit_code"] == 11
    assert "when it was first seen" in changed["error"]["message"]


def test_an_index_of_files_by_their_hash(environment, host, tmp_path):
    version = "2.2.0+cu.12.1.torch.2.4"
    name = f"sageattention-{version}-cp311-cp311-manylinux_2_24_x86_64.whl"
    wheel = make_wheel(tmp_path, "sageattention", version, tag="cp311-cp311-manylinux_2_24_x86_64")
    host.add_astral_page("cu121", "sageattention", {name: wheel})
    document, added = install(environment, "sageattention")
    assert added == [f"sageattention=={version}"]
    assert document["plan"]["steps"][0]["sha256"] in document["plan"]["steps"][0]["url"]


@pytest.mark.long
def test_a_page_for_each_exact_torch(environment, host, tmp_path):
    name = f"kaolin-0.17.0-{TAG}.whl"
    bucket = "https://nvidia-kaolin.s3.us-east-2.amazonaws.com"
    host.put_file(f"{bucket}/torch-2.4.1_cu121/{name}", make_wheel(tmp_path, "kaolin", "0.17.0"))
    host.add_anchors(f"{bucket}/torch-2.4.1_cu121.html", [f"torch-2.4.1_cu121/{name}"])
    assert install(environment, "kaolin")[1] == ["kaolin==0.17.0"]


@pytest.mark.long
def test_a_page_for_each_python_torch_and_cuda(environment, host, tmp_path):
    name = f"pytorch3d-0.7.8-{TAG}.whl"
    folder = "https://dl.fbaipublicfiles.com/pytorch3d/packaging/wheels/py311_cu121_pyt241"
    native = "pytorch3d/_C.cpython-311-x86_64-linux-gnu.so"
    host.put_file(f"{folder}/{name}", make_wheel(tmp_path, "pytorch3d", "0.7.8", native=native))
    host.add_anchors(f"{folder}/download.html", [name])
    assert install(environment, "pytorch3d")[1] == ["pytorch3d==0.7.8"]


@pytest.mark.long
def test_one_page_for_every_torch(environment, host, tmp_path):
    versions = ["0.17.5+torch240cu121", "0.17.5+torch240cu124", "0.17.5+torch250cu121"]
    names = [f"natten-{version}-{TAG}.whl" for version in versions]
    for name, version in zip(names, versions):
        host.put_file(
            f"https://whl.natten.org/{name}", make_wheel(tmp_path / version, "natten", version)
        )
    host.add_anchors("https://whl.natten.org", [name.replace("+", "%2B") for name in names])
    assert install(environment, "natten")[1] == [f"natten=={versions[0]}"]


@pytest.mark.long
def test_an_index_whose_files_lie_on_github(environment, host, tmp_path):
    version = "1.5.3+pt24cu121"
    name = f"gsplat-{version}-{TAG}.whl"
    host.add_release(
        "nerfstudio-project/gsplat", "v1.5.3", {name: make_wheel(tmp_path, "gsplat", version)}
    )
    asset = f"https://github.com/nerfstudio-project/gsplat/releases/download/v1.5.3/{name.replace('+', '%2B')}"
    host.add_anchors("https://docs.gsplat.studio/whl/pt24cu121/gsplat/", [asset])
    assert install(environment, "gsplat")[1] == [f"gsplat=={version}"]
    assert not host.asked("/github-api/")


@pytest.mark.long
def test_a_bucket_of_a_minor(environment, host, tmp_path):
    version = "0.5.3+pt24cu121"
    bucket = "https://nerfacc-bucket.s3.us-west-2.amazonaws.com/whl"
    name = f"nerfacc-{version}-{TAG}.whl"
    host.put_file(f"{bucket}/torch-2.4.0_cu121/{name}", make_wheel(tmp_path, "nerfacc", version))
    host.add_anchors(
        f"{bucket}/torch-2.4.0_cu121.html", [f"torch-2.4.0_cu121/{name.replace('+', '%2B')}"]
    )
    assert install(environment, "nerfacc")[1] == [f"nerfacc=={version}"]


def test_the_index_of_pytorch(environment, host, tmp_path):
    version = "0.19.1+cu121"
    native = "torchvision/_C.so"
    wheel = make_wheel(tmp_path, "torchvision", version, native=native)
    host.add_pytorch_page("cu121", "torchvision", {f"torchvision-{version}-{TAG}.whl": wheel})
    assert install(environment, "torchvision")[1] == [f"torchvision=={version}"]


def test_the_package_index(environment, host, tmp_path):
    wheel = make_wheel(tmp_path, "torchdata", "0.11.0", tag="py3-none-any")
    host.add_pypi_page("torchdata", {"torchdata-0.11.0-py3-none-any.whl": wheel})
    assert install(environment, "torchdata")[1] == ["torchdata==0.11.0"]


def test_somebody_elses_build_when_it_is_named(environment, host, tmp_path):
    version = "2.8.3+cu121torch2.4"
    native = "flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so"
    wheel = make_wheel(tmp_path, "flash-attn", version, native=native)
    host.add_release(
        "mjun0812/flash-attention-prebuild-wheels",
        "v0.5.4",
        {f"flash_attn-{version}-{TAG}.whl": wheel},
    )
    refused = environment.document("install", "--no-build", "flash-attn")
    assert refused["exit_code"] == 10
    assert "--third-party" in refused["error"]["message"]
    installed, _ = install(environment, "--third-party", "mjun0812", "flash-attn")
    assert "mjun0812" in installed["plan"]["steps"][0]["url"]


def test_the_name_of_a_mirror_that_is_not_known(environment):
    unknown = environment.safe_install("install", "torchvision", SAFE_INSTALL_MIRRORS="nowhere")
    assert unknown.returncode == 2
    assert "aliyun, ghfast, hf-mirror, nju, sjtu" in unknown.stderr


@pytest.mark.long
def test_two_plus_in_a_file_name(make_environment, host, tmp_path):
    """No pip reads such a name; its METADATA has none of it."""
    environment = make_environment("3.8", "torch==1.8.1+cu111", **online(host))
    tag = "cp38-cp38-manylinux1_x86_64"
    name = f"mmcv_full-1.3.1%2Btorch1.8.0%2Bcu111-{tag}.whl"
    base = "https://download.openmmlab.com/mmcv/dist"
    files = {
        **SOURCES["mmcv"],
        "mmcv/_ext.cpython-38-x86_64-linux-gnu.so": _link(
            tmp_path / "x.so", exports=["f"]
        ).read_bytes(),
    }
    real = write_wheel(tmp_path / "real", "mmcv-full", "1.3.1", files, tag=tag).read_bytes()
    host.put_file(f"{base}/1.3.1/torch1.8.0/cu111/{name}", real)
    host.add_anchors(
        f"{base}/cu111/torch1.8.0/index.html", [f"../../1.3.1/torch1.8.0/cu111/{name}"]
    )
    document = environment.document("install", "mmcv-full")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document["error"]
    assert (
        "mmcv-full==1.3.1" in environment.versions() or "mmcv_full==1.3.1" in environment.versions()
    )
    assert environment.cuda() == "1.8.1+cu111 True"


@pytest.mark.parametrize("requirements", [(TORCH,), pytest.param((), marks=pytest.mark.long)])
@pytest.mark.parametrize(("project", "meant"), [("apex", "NVIDIA/apex"), ("pytorch", "'torch'")])
def test_a_name_that_belongs_to_somebody_else_installs_nothing(
    make_environment, host, requirements, project, meant
):
    need_python("3.11")
    environment = make_environment("3.11", *requirements, **online(host))
    host.add_pypi_page(project, {f"{project}-1.0.2.tar.gz": b"not what was meant"})
    before = environment.tree()
    document = environment.document("install", project)
    assert document["exit_code"] == 10
    assert meant in document["error"]["hint"]
    assert environment.tree() == before
    assert not host.asked("/files/")


@pytest.mark.long
def test_what_needs_no_torch_is_pips_where_there_is_none(make_environment, host, tmp_path):
    need_python("3.11")
    environment = make_environment("3.11", **online(host))
    make_wheel(tmp_path, "torchdata", "0.11.0", tag="py3-none-any")
    document = environment.document("install", "torchdata", PIP_FIND_LINKS=str(tmp_path / "wheels"))
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document["error"]
    assert "torchdata==0.11.0" in environment.versions()
