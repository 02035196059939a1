"""Snapshots for tests: one of every source, and strategies that make any."""

from __future__ import annotations

from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    RecordedDistribution,
    RepositorySource,
    Snapshot,
    TorchFacts,
    UnknownSource,
    UrlSource,
)

HASH = "0123456789abcdef" * 4
COMMIT = "f" * 40
INDEX = "https://pypi.org/simple"


def distribution(name, version, source, **fields):
    return RecordedDistribution(canonicalize_name(name), version, source, **fields)


def index_wheel(name, version, tag="py3-none-any", **fields):
    filename = f"{name.replace('-', '_')}-{version}-{tag}.whl"
    url = f"https://files.pythonhosted.org/packages/01/{filename}"
    return distribution(name, version, IndexSource(INDEX, url, filename, HASH, 1234), **fields)


def snapshot_of(*distributions, **fields):
    values = {
        "python": "3.11.7",
        "platform": "linux_x86_64",
        "libc": ("glibc", "2.36"),
        "requires_python": "==3.11.*",
        "environments": ("sys_platform == 'linux' and platform_machine == 'x86_64'",),
    }
    values.update(fields)
    ordered = sorted(distributions, key=lambda one: one.name)
    return Snapshot(distributions=tuple(ordered), **values)


SCATTER = "torch_scatter-2.1.2+pt21cu121-cp311-cp311-linux_x86_64.whl"
SCATTER_URL = "https://data.pyg.org/whl/torch-2.1.0%2Bcu121/" + SCATTER.replace("+", "%2B")
EVERY_SOURCE = snapshot_of(
    index_wheel("numpy", "1.26.4", "cp311-cp311-manylinux_2_17_x86_64"),
    distribution(
        "antlr4-python3-runtime",
        "4.9.3",
        IndexSource(
            INDEX,
            "https://files.pythonhosted.org/packages/02/antlr4-python3-runtime-4.9.3.tar.gz",
            "antlr4-python3-runtime-4.9.3.tar.gz",
            HASH,
        ),
    ),
    distribution(
        "torch-scatter",
        "2.1.2+pt21cu121",
        UrlSource(SCATTER_URL, SCATTER, HASH, 99),
        is_requested=True,
    ),
    # as its file name says it, its metadata has another version
    distribution(
        "flash-attn",
        "2.8.3",
        UrlSource(
            "https://github.com/x/y/releases/download/v2/flash_attn-2.8.3%2Bcu12-cp311-cp311-linux_x86_64.whl",
            "flash_attn-2.8.3+cu12-cp311-cp311-linux_x86_64.whl",
            HASH,
        ),
    ),
    distribution("no-hash", "1", UrlSource("https://h.example/no_hash.zip", "no_hash.zip", None)),
    distribution(
        "torch-sparse",
        "0.6.18",
        FileSource(
            "wheels/torch_sparse-0.6.18-cp311-cp311-linux_x86_64.whl",
            "torch_sparse-0.6.18-cp311-cp311-linux_x86_64.whl",
            HASH,
            7,
            is_built_here=True,
        ),
    ),
    distribution(
        "given",
        "1.0",
        FileSource("/data/given-1.0-py3-none-any.whl", "given-1.0-py3-none-any.whl", HASH),
    ),
    distribution("mine", "0.1", DirectorySource("/home/me/mine", is_editable=True)),
    distribution("tree", "0.2", DirectorySource("/home/me/tree")),
    distribution(
        "from-git",
        "0.3.dev1+gffff",
        RepositorySource("git", "https://github.com/x/y.git", COMMIT, "main", "sub"),
    ),
    distribution("nobody-knows", "1-2-x", UnknownSource('its "RECORD" is missing')),
    torch=TorchFacts("2.1.0+cu121", "cu121", "12.1"),
)

# --- any snapshot ---------------------------------------------------------------------------------

TEXTS = st.text(min_size=1, max_size=12)
PATHS = TEXTS.map(lambda text: "/" + text.replace("/", "_").replace("\0", "_"))
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,4})?", fullmatch=True)
VERSIONS = st.from_regex(r"[0-9]\.[0-9]{1,2}(\+[a-z0-9]{1,6})?", fullmatch=True)
HASHES = st.integers(0, 2**256 - 1).map("{:064x}".format)
SIZES = st.none() | st.integers(0, 2**40)


@st.composite
def sources(draw, name, version):
    filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    url = f"https://h.example/{draw(NAMES)}/{filename.replace('+', '%2B')}"
    sha256, size = draw(HASHES), draw(SIZES)
    return draw(
        st.sampled_from(
            [
                IndexSource(INDEX, url, filename, sha256, size),
                UrlSource(url, filename, sha256, size),
                UrlSource(url, filename, None),
                FileSource(f"/wheels/{filename}", filename, sha256, size, is_built_here=True),
                FileSource(f"/wheels/{filename}", filename, sha256, size),
                FileSource("/files/x.zip", "x.zip", sha256, size, subdirectory="s"),
                DirectorySource(draw(PATHS), draw(st.booleans())),
                RepositorySource("git", "https://h.example/x.git", sha256[:40], draw(NAMES)),
                UnknownSource(draw(TEXTS)),
            ]
        )
    )


@st.composite
def distributions(draw):
    name, version = draw(NAMES), draw(VERSIONS)
    source = draw(sources(name, version))
    return distribution(name, version, source, is_requested=draw(st.booleans()))


@st.composite
def snapshots(draw):
    found = draw(st.lists(distributions(), max_size=6, unique_by=lambda one: one.name))
    torch = draw(st.none() | st.just(TorchFacts("2.1.0+cu121", "cu121", "12.1")))
    return snapshot_of(*found, torch=torch)
