from __future__ import annotations

import copy
import json

import pytest
from packaging.version import Version

from safe_install.errors import IndexInvalid
from safe_install.index.catalog import load_project
from safe_install.index.document import (
    parse_cuda_table,
    parse_json,
    parse_project,
    parse_torch_table,
)

SMALL = {
    "schema": 1,
    "name": "made-up",
    "imports": ["made_up"],
    "native": ["made_up/_C*.so"],
    "operation": None,
    "match": {"torch": "minor", "accelerator": "exact"},
    "pins_torch": False,
    "requires": [],
    "hosts": [
        {
            "host": "wheels.example",
            "layout": "find-links",
            "filename": "pyg-tagged",
            "pages": ["https://wheels.example/{torch}+{accelerator}.html"],
            "wheel": "https://wheels.example/{base}/{file}",
        }
    ],
    "builds": [
        {
            "host": "wheels.example",
            "torch": "2.0.0",
            "version": "1.0",
            "accelerators": ["cpu"],
            "platform": "linux_x86_64",
            "python": ["3.11"],
        }
    ],
    "doubts": [],
    "checked": "2026-11-23",
    "sources": ["nowhere"],
}


def changed(path, value):
    document = copy.deepcopy(SMALL)
    target = document
    for step in path[:-1]:
        target = target[step]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return document


def test_a_small_document_is_enough():
    project = parse_project(copy.deepcopy(SMALL), "made-up.json")
    assert (project.name, project.recipe, project.aliases) == ("made-up", None, ())


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["hostz"], [], "hostz"),
        (["hosts", 0, "mirror"], "x", "mirror"),
        (["builds", 0, "cuda"], "x", "cuda"),
        (["match", "glibc"], "exact", "glibc"),
        (["imports"], None, "imports"),
        (["imports"], "made_up", "imports"),
        (["pins_torch"], "no", "pins_torch"),
        (["schema"], 2, "schema 2"),
        (["match", "torch"], "roughly", "roughly"),
        (["hosts", 0, "filename"], "made-up-grammar", "grammar"),
        (["hosts", 0, "filename"], "+for{nothing}", "grammar"),
        (["builds", 0, "filename"], "made-up-grammar", "grammar"),
        (["hosts", 0, "layout"], "ftp", "ftp"),
        (["hosts", 0, "pages"], ["http://wheels.example/x.html"], "https"),
        (["hosts", 0, "wheel"], "ftp://wheels.example/{file}", "https"),
        (["hosts", 0, "wheel"], "https://user:secret@wheels.example/{file}", "https"),
        (["hosts", 0, "wheel"], "file:///etc/passwd", "https"),
        (["builds", 0, "host"], "other.example", "other.example"),
        (["sha256"], {"https://wheels.example/x.whl": "abc"}, "hex"),
        (["sha256"], {"http://wheels.example/x.whl": "a" * 64}, "https"),
        (["pins"], {"1.0": "torch 2"}, "pins"),
        (["pins"], {"one": "==2.0"}, "pins"),
        (["doubts"], ["something"], "doubts"),
        (["name"], 3, "must be a text"),
        (["pins"], ["1.0"], "must be an object"),
        (["pins"], {"1.0": 2}, "pins.1.0: must be a text"),
        (["hosts"], {}, "hosts: must be a list"),
        (["builds", 0, "cxx11_abi"], ["yes"], "must be a list of true and false"),
        (
            ["hosts"],
            [SMALL["hosts"][0], SMALL["hosts"][0]],
            "two hosts are called 'wheels.example'",
        ),
        (["hosts", 0, "repository"], "owner/name", "nothing else, have a repository"),
        (["hosts", 0, "pages"], [], "has pages"),
        (
            ["gpu_code"],
            [{"versions": "==1.0", "capabilities": ["sm_80"]}],
            "'sm_80' is no compute capability",
        ),
    ],
)
def test_what_is_not_known_is_refused(path, value, said):
    with pytest.raises(IndexInvalid) as caught:
        parse_project(changed(path, value), "made-up.json")
    assert "made-up.json" in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint


TORCH = {
    "torch": "2.13.0",
    "accelerators": ["cpu", "cu126"],
    "untagged": "cu130",
    "companions": {},
    "python": ["3.11"],
}
ABI = {"since": "1.0", "value": True}


@pytest.mark.parametrize(
    ("releases", "rules", "said"),
    [
        ([TORCH, {**TORCH, "untagged": "cu126"}], [ABI], "two releases are '2.13.0'"),
        ([{**TORCH, "torch": "newest"}], [ABI], "'newest' is no version of a release"),
        ([{**TORCH, "torch": "2.13.0+cu126"}], [ABI], "'2.13.0+cu126' is no version"),
        ([{**TORCH, "torch": "v2.13.0"}], [ABI], "'v2.13.0' is no version"),
        ([{**TORCH, "accelerators": ["gpu"]}], [ABI], "'gpu' is no accelerator"),
        ([{**TORCH, "accelerators_aarch64": ["cuda12.6"]}], [ABI], "'cuda12.6' is no accelerator"),
        ([{**TORCH, "python": ["cp311"]}], [ABI], "'cp311' is no Python version"),
        ([{**TORCH, "python": 3}], [ABI], "python: must be a list of texts"),
        ([TORCH], [{**ABI, "since": "long ago"}], "'long ago' is no version of a release"),
    ],
)
def test_a_table_of_torch_that_contradicts_itself(releases, rules, said):
    """Every command reads it: one that `wheels --update` took would stop all of them."""
    table = {"schema": 1, "checked": "2026-11-23", "sources": [], "releases": [TORCH]}
    parse_torch_table({**table, "cxx11_abi": [ABI]}, "torch.json")
    with pytest.raises(IndexInvalid) as caught:
        parse_torch_table({**table, "releases": releases, "cxx11_abi": rules}, "torch.json")
    assert said in caught.value.message


def test_text_that_is_no_json():
    with pytest.raises(IndexInvalid, match=r"x\.json is not JSON"):
        parse_json("{", "x.json")


def test_a_project_that_is_not_there():
    with pytest.raises(IndexInvalid, match="no-such-project"):
        load_project("no-such-project")


@pytest.mark.parametrize("parse", [parse_torch_table, parse_cuda_table])
def test_tables_refuse_unknown_keys(parse):
    table = {"schema": 1, "checked": "2026-11-23", "sources": [], "extra": 1}
    with pytest.raises(IndexInvalid, match="extra"):
        parse(json.loads(json.dumps(table)), "table.json")


@pytest.mark.parametrize("spelling", ["torch-scatter", "torch_scatter", "Torch.Scatter"])
def test_names_are_canonicalised(spelling):
    assert load_project(spelling).name == "torch-scatter"


@pytest.mark.parametrize(
    ("torch", "accelerator", "base"),
    [
        ("1.8.1", "cu111", ("1.8.0", "cu111")),
        ("1.8.0", "cu111", ("1.8.0", "cu111")),
        ("1.8.2", "cu111", ("1.8.0", "cu111")),
        ("1.10.1", "cu111", ("1.10.0", "cu113")),
        ("1.10.0", "cu111", ("1.10.0", "cu113")),
        ("1.10.2", "cu102", ("1.10.0", "cu102")),
        ("2.12.1", "cpu", ("2.12.0", "cpu")),
        ("2.14.1", "cu130", ("2.14.0", "cu130")),
    ],
)
def test_aliases_of_the_pyg_pages(torch, accelerator, base):
    assert load_project("torch-scatter").base_of(torch, accelerator) == base


def test_the_companions_have_a_torch_of_their_own():
    assert load_project("torchvision").base_of("1.8.1", "cu111") == ("1.8.1", "cu111")
    assert str(load_project("torchvision").pin_of(Version("0.28.0+cpu"))) == "==2.13.0"
    assert load_project("torchvision").pin_of(Version("9.9")) is None


@pytest.mark.parametrize(
    "pattern", ["/lib/x.so", "../x.so", "a/x{b}.so", "a/[ab].so", "a/x{b,c}{d,e}.so"]
)
def test_a_pattern_of_shared_objects_stays_below_site_packages(pattern):
    with pytest.raises(IndexInvalid, match="no pattern below site-packages"):
        parse_project(changed(["native"], [pattern]), "made-up.json")


def test_patterns_with_and_without_alternatives_are_read():
    patterns = [
        "made_up/_*.so",
        "made_up/_*{_cuda,_cpu,}.so",
    ]  # a person's data folder may hold an index without braces
    assert list(parse_project(changed(["native"], patterns), "made-up.json").native) == patterns
