"""Which build of torch comes, from the loop of a choice: by the driver, by --accelerator, by what
is installed.

The pages are those of download.pytorch.org, read by the real reader; pip is an index with one build
of each release.
"""

from __future__ import annotations

import hashlib
import zipfile

import pytest

from safe_install.errors import NoCandidate, PipFailed, Refused, UsageError
from safe_install.index.catalog import bundled_catalog
from safe_install.index.torch_files import MAX_RELEASES
from safe_install.index.torch_pages import TorchPages
from safe_install.models import CandidateKind, Device, Driver
from safe_install.pipeline.joint_choice import MAX_ASKED
from safe_install.resolve.rounds import Failed
from safe_install.system.http import PageAnswer, PageStatus
from safe_install.tags import supported_tags
from tests.factories import make_environment, make_interpreter
from tests.unit.pipeline.test_selection import FakeChooser, Notes, planned, run, steps_of

WHL = "https://download.pytorch.org/whl"
TAGS = supported_tags("3.11", "cpython", "linux_x86_64", ("glibc", "2.36"))
INTERPRETER = make_interpreter(tags=TAGS)
FILE = "{project}-{version}-cp311-cp311-manylinux_2_28_x86_64.whl"
ON_HOST = {
    "cpu": ("2.15.0", "2.14.1", "2.13.0"),
    "cu118": ("2.7.1", "2.6.0"),
    "cu126": ("2.14.1", "2.13.0", "2.12.1"),
    "cu130": ("2.15.0", "2.14.1"),
    "rocm6.4": ("2.9.1",),
}
REQUIRES = {"rocm6.4": ["pytorch-triton-rocm==3.5.1; platform_system == 'Linux'"]}


class Pages:
    """The pages of torch's host; how often each was asked."""

    def __init__(self, *, down=(), hashes=True, metadata=True):
        self.down, self.asked, self.texts = down, [], {}
        for accelerator, releases in ON_HOST.items():
            self._add(
                accelerator, "torch", [f"{one}+{accelerator}" for one in releases], hashes, metadata
            )
        self._add("rocm6.4", "pytorch-triton-rocm", ["3.5.1", "3.5.0"], hashes, metadata)

    def _add(self, accelerator, project, versions, hashes, has_metadata):
        lines = []
        for version in versions:
            name = FILE.format(project=project.replace("-", "_"), version=version)
            requires = "".join(f"Requires-Dist: {text}\n" for text in REQUIRES.get(accelerator, ()))
            text = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\nProvides-Extra: x\n{requires}"
            url = f"{WHL}/{accelerator}/{name.replace('+', '%2B')}"
            self.texts[f"{url}.metadata"] = text
            promised = f"sha256={hashlib.sha256(text.encode()).hexdigest()}"
            fragment = f"#sha256={hashlib.sha256(name.encode()).hexdigest()}" if hashes else ""
            extra = (
                f' data-dist-info-metadata="{promised}" data-core-metadata="{promised}"'
                if has_metadata
                else ""
            )
            path = f"/whl/{accelerator}/{name.replace('+', '%2B')}"
            lines.append(f'<a href="{path}{fragment}"{extra}>{name}</a><br/>')
        self.texts[f"{WHL}/{accelerator}/{project}/"] = "\n".join(lines)

    def get_page(self, url, *, allowed_hosts=(), accept=""):
        self.asked.append(url)
        if any(part in url for part in self.down):
            return PageAnswer(url, PageStatus.DOWN, detail="HTTP 503")
        if url not in self.texts:
            return PageAnswer(url, PageStatus.MISSING, detail="HTTP 404")
        return PageAnswer(url, PageStatus.LISTED, self.texts[url], asked=url)


class PageChooser(FakeChooser):
    """Extensions as always; torch from the pages."""

    def __init__(self, pages=None, offline="", **fields):
        super().__init__(**fields)
        self.pages = pages or Pages()
        self.torch_pages = TorchPages(self.pages, bundled_catalog().torch, offline=offline)

    def obtain(self, pin, environment, *, is_promised=False):
        pin, artifact = super().obtain(pin, environment, is_promised=is_promised)
        if pin.name == "torch":
            artifact.installable_filename = pin.link.filename
        return pin, artifact


class PackageIndex:
    """pip, whose index has one build of each release."""

    def __init__(self, *releases, requirement="", others=None, installed=None, named=None):
        """`named`: what it has of a release where that is another build."""
        self.named = named or {}
        self.releases = releases or ("2.15.0", "2.14.1", "2.13.0", "2.10.0")
        self.others, self.installed, self.requirement = others or {}, installed, requirement
        self.questions = []

    def plan(self, requirements, *, constraints, find_links):
        return self._answer(constraints, find_links, {})

    def plan_request(self, *, constraints, find_links, hidden=(), without_source=()):
        return self._answer(constraints, find_links, self.others)

    def relay(self):
        pass

    def _answer(self, constraints, find_links, others):
        self.questions.append(list(constraints))
        self.shown = sorted(path.name for folder in find_links for path in folder.iterdir())
        pinned = [line for line in constraints if line.startswith("torch==")]
        if not pinned:
            if self.requirement:
                return no_match(self.requirement)
            return planned(torch=self.releases[0], **others)
        version = pinned[0].lstrip("torch=")
        if version == self.installed:
            return planned(**others)
        is_shown = any(name.startswith(f"torch-{version}-") for name in self.shown)
        if is_shown or version in self.releases:
            return planned(torch=self.named.get(version, version), **others)
        return no_match(pinned[0])


def no_match(requirement):
    return Failed(
        PipFailed("pip failed", output=f"ERROR: No matching distribution found for {requirement}\n")
    )


def machine(*, torch=None, driver=None, cuda=None, gpu=None, declared=False):
    found = None
    if driver:
        devices = (Device("gpu", gpu),) if gpu else ()
        found = Driver(
            driver, cuda or bundled_catalog().cuda.cuda_of_driver(driver), devices, declared
        )
    return make_environment(torch=torch, driver=found, interpreter=INTERPRETER)


def choose(tmp_path, *words, here=None, chooser=None, installer=None, **options):
    chooser, installer = chooser or PageChooser(), installer or PackageIndex()
    here = here or machine()
    selected, _, _, said = run(
        tmp_path, *words, here=here, chooser=chooser, installer=installer, **options
    )
    return selected, chooser, installer, said


def torch_of(selected):
    return steps_of(selected).get("torch")


def notes_of(selected, check):
    return [finding.detail for finding in selected.findings if finding.check == check]


# --- the driver -----------------------------------------------------------------------------------

BY_DRIVER = [
    # driver, GPU, what comes
    ("450.80.02", None, "2.7.1+cu118"),
    ("470.57.02", None, "2.7.1+cu118"),
    ("525.60.13", None, "2.14.1+cu126"),
    ("535.104.05", None, "2.14.1+cu126"),
    ("560.35", None, "2.14.1+cu126"),
    ("580.65.06", None, "2.15.0"),
    ("580.65.06", "9.0", "2.15.0"),
]


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "here"])
@pytest.mark.parametrize(("driver", "gpu", "version"), BY_DRIVER)
def test_the_driver_decides(tmp_path, driver, gpu, version, declared):
    here = machine(driver=driver, gpu=gpu, declared=declared)
    selected, chooser, installer, said = choose(tmp_path, "torch", here=here)
    assert torch_of(selected) == version
    assert len(installer.questions) == (1 if version == "2.15.0" else 2)
    assert len(set(chooser.pages.asked)) == len(chooser.pages.asked), "no page is asked twice"
    assert not any(finding.severity.value != "note" for finding in selected.findings)
    if version == "2.15.0":
        assert not chooser.pages.asked and not notes_of(selected, "older-torch")
        return
    (step,) = [step for step in selected.plan.steps if step.name == "torch"]
    accelerator = version.partition("+")[2]
    name = FILE.format(project="torch", version=version)
    assert step.url == f"{WHL}/{accelerator}/{name.replace('+', '%2B')}"
    assert step.sha256 == hashlib.sha256(name.encode()).hexdigest()
    (line,) = notes_of(selected, "older-torch")
    assert line.startswith("torch 2.15.0 needs driver ") and line.endswith(f"; {version} is taken")
    assert f"torch {version} will be installed" in said


def test_the_same_release_for_another_cuda_is_said(tmp_path):
    here = machine(driver="535.104.05")
    installer = PackageIndex("2.14.1", "2.13.0")
    selected, *_ = choose(tmp_path, "torch", here=here, installer=installer)
    assert torch_of(selected) == "2.14.1+cu126"
    (line,) = notes_of(selected, "other-build")
    assert line.startswith("torch 2.14.1+cu130 needs driver 580.65.06 or newer, here is 535.104.05")
    assert line.endswith("2.14.1+cu126 is taken")


def test_the_gpu_decides_too(tmp_path):
    """CUDA 13 has no code for a V100, whatever its driver."""
    here = machine(driver="580.65.06", gpu="7.0")
    selected, *_ = choose(tmp_path, "torch", here=here, installer=PackageIndex("2.14.1"))
    assert torch_of(selected) == "2.14.1+cu126"


def test_pip_is_shown_the_metadata_and_not_the_file(tmp_path):
    selected, chooser, installer, _ = choose(tmp_path, "torch", here=machine(driver="535.104.05"))
    assert chooser.obtained == [] and not selected.artifacts
    assert installer.questions[1] == ["torch==2.14.1+cu126"]
    (path,) = (tmp_path / "work" / "links").iterdir()
    with zipfile.ZipFile(path) as archive:
        text = archive.read("torch-2.14.1+cu126.dist-info/METADATA").decode()
    assert (
        text
        == chooser.pages.texts[
            f"{WHL}/cu126/{FILE.format(project='torch', version='2.14.1%2Bcu126')}.metadata"
        ]
    )


def test_a_torch_that_a_dependency_brings_is_chosen_too(tmp_path):
    installer = PackageIndex(others={"ultralytics": "8.3"})
    selected, *_ = choose(
        tmp_path, "ultralytics", here=machine(driver="470.57.02"), installer=installer
    )
    assert steps_of(selected) == {"torch": "2.7.1+cu118", "ultralytics": "8.3"}


def test_a_torch_that_a_dependency_brings_is_the_torch_of_an_extension(tmp_path):
    """pip is asked for the dependency alone, then for all of it."""
    installer = PackageIndex(others={"base": "1.0"})
    selected, *_ = choose(tmp_path, "base", "torch-scatter", installer=installer)
    assert {"torch", "torch-scatter"} <= set(steps_of(selected))
    assert len(installer.questions) == 2


def test_what_brings_no_torch_is_asked_for_once(tmp_path):
    installer = PackageIndex(others={"base": "1.0"})
    installer.plan = lambda requirements, **_: planned(base="1.0")
    with pytest.raises(NoCandidate, match=r"^torch is not installed for ") as caught:
        choose(tmp_path, "base", "torch-scatter", installer=installer)
    assert caught.value.hint == "Name torch, too: safe-install torch torch-scatter"
    assert installer.questions == []


def test_its_companions_are_chosen_with_it(tmp_path):
    """Those of pip's plan are for the torch of pip's plan: pip is not asked once more to learn
    that."""
    installer = PackageIndex(
        others={"torchvision": "2.0", "torch_geometric": "2.6", "triton": "3.8"}
    )
    words = ["torch", "torchvision", "torch-geometric"]
    selected, chooser, *_ = choose(
        tmp_path, *words, here=machine(driver="535.104.05"), installer=installer
    )
    assert torch_of(selected) == "2.14.1+cu126"
    assert [(names, torch) for names, torch, *_ in chooser.asked] == [
        (["torchvision"], "2.14.1+cu126")
    ]
    assert len(installer.questions) == 2


def test_an_extension_is_chosen_for_a_build_from_elsewhere(tmp_path):
    installer = PackageIndex(others={"torch_scatter": "2.0"})
    here = machine(driver="535.104.05", declared=True)
    selected, chooser, *_ = choose(
        tmp_path, "torch", "torch-scatter", here=here, installer=installer
    )
    assert torch_of(selected) == "2.14.1+cu126"
    assert [torch for _, torch, *_ in chooser.asked] == ["2.14.1+cu126"]


def test_the_builds_of_one_release_are_one_question(tmp_path):
    """Of each release of torch several builds run with this driver; hosts are asked for a number of
    releases."""
    here = machine(driver="580.65.06", declared=True)
    chooser = PageChooser(missing=["torch-scatter"])
    chooser.is_known = lambda *_, **__: None
    with pytest.raises(NoCandidate):
        choose(tmp_path, "torch", "torch-scatter", here=here, chooser=chooser)
    asked = dict.fromkeys(torch for _, torch, *_ in chooser.asked)
    assert {"2.15.0", "2.15.0+cu130", "2.14.1", "2.14.1+cu126", "2.13.0"} <= set(asked)
    assert len({version.partition("+")[0] for version in asked}) == 1 + MAX_ASKED


SILENT = [
    # driver, words, what would come, what the hint names
    ("535.104.05", ["torch"], "2.14.1+cu126", "torch==2.10.0."),
    ("470.57.02", ["torch"], "2.7.1+cu118", "torch==2.0.1."),
    ("470.57.02", ["base"], "2.7.1+cu118", "torch==2.0.1."),
    ("470.57.02", ["torch>=2.6"], "2.7.1+cu118", "--accelerator cu132 torch==2.15.0."),
]


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "here"])
@pytest.mark.parametrize(("driver", "words", "version", "way"), SILENT)
def test_a_host_that_does_not_answer_decides_on_no_older_torch(
    tmp_path, driver, words, version, way, declared
):
    chooser = PageChooser(Pages(down=["download.pytorch.org"]))
    installer = PackageIndex(others={"base": "1.0"} if "base" in words else {})
    here = machine(driver=driver, declared=declared)
    with pytest.raises(Refused) as caught:
        choose(tmp_path, *words, here=here, chooser=chooser, installer=installer)
    assert caught.value.message == (
        f"torch {version} would come, and download.pytorch.org does not answer (HTTP 503)"
    )
    assert caught.value.hint.startswith("Try again when download.pytorch.org answers, or name a ")
    is_possible = not (declared and "--accelerator" in way)
    assert (way in caught.value.hint) is is_possible
    assert len(installer.questions) == 1
    assert len(chooser.pages.asked) == 1


@pytest.mark.parametrize(
    "words", [["torch==2.10.0"], ["--accelerator", "cu132", "torch==2.15.0"]], ids=["runs", "not"]
)
def test_the_ways_out_of_that_refusal(tmp_path, words):
    chooser = PageChooser(Pages(down=["download.pytorch.org"]))
    release = words[-1].partition("==")[2]
    selected, *_ = choose(
        tmp_path,
        *words,
        here=machine(driver="535.104.05"),
        chooser=chooser,
        installer=PackageIndex(release),
    )
    assert torch_of(selected) == release


def test_an_extension_is_no_reason_for_an_older_torch_either(tmp_path):
    """The bundled facts know a torch-scatter for the torch whose host does not answer."""
    chooser = PageChooser(Pages(down=["download.pytorch.org"]))
    chooser.is_known = lambda *_, **__: True
    with pytest.raises(Refused, match=r"torch 2\.14\.1\+cu126 would come, and download"):
        choose(
            tmp_path, "torch", "torch-scatter", here=machine(driver="535.104.05"), chooser=chooser
        )


class SilentHosts(PageChooser):
    """No host of an extension answers, and the bundled facts know a wheel for each torch."""

    def choose(self, requirements, environment, *, allow_build=True, **options):
        if not allow_build:
            error = NoCandidate("no torch-scatter fits")
            error.projects, error.is_open = ("torch-scatter",), True
            raise error
        return super().choose(requirements, environment, allow_build=allow_build, **options)

    def is_known(self, requirement, environment, *, constraints=()):
        return True


def test_where_no_host_answers_the_torch_of_pips_index_comes_and_the_rest_is_built(tmp_path):
    """The build of the other host would not come, either: there is no extension for it."""
    chooser = SilentHosts(Pages(down=["download.pytorch.org"]), kind=CandidateKind.SDIST)
    here = machine(gpu="9.0", driver="580.65.06", declared=True)
    selected, *_ = choose(
        tmp_path, "--dry-run", "torch", "torch-scatter", here=here, chooser=chooser
    )
    assert torch_of(selected) == "2.15.0"


def own_place(folder, chooser, version):
    """A folder of the person's own with one file of torch."""
    (folder / FILE.format(project="torch", version=version)).touch()
    table = bundled_catalog().torch
    chooser.torch_pages = TorchPages(chooser.pages, table, find_links=[str(folder)])


@pytest.mark.parametrize(
    ("version", "is_named"), [("2.13.0+cu126", True), ("2.13.0", False), ("2.12.1+cu126", False)]
)
def test_the_hint_names_the_build_in_a_place_of_the_person(tmp_path, version, is_named):
    """Not one that the words of the person exclude."""
    chooser = PageChooser(Pages(down=["download.pytorch.org"]))
    own_place(tmp_path, chooser, version)
    words = ["-f", str(tmp_path), "torch>=2.13"]
    with pytest.raises(Refused) as caught:
        choose(tmp_path, *words, here=machine(driver="535.104.05"), chooser=chooser)
    way = f"Or name the build that a place of your own has: torch=={version}."
    assert (way in caught.value.hint) is is_named


@pytest.mark.parametrize("words", [["torch"], ["torch", "torch-scatter"], ["torch>=2.12"]])
def test_a_place_of_the_person_has_the_accelerator_that_was_asked_for(tmp_path, words):
    """They named it, so that their folder is not left out because another host is silent."""
    chooser = PageChooser(Pages(down=["download.pytorch.org"]))
    own_place(tmp_path, chooser, "2.13.0+cpu")
    words = ["-f", str(tmp_path), "--accelerator", "cpu", *words]
    selected, *_ = choose(tmp_path, *words, chooser=chooser)
    assert torch_of(selected) == "2.13.0+cpu"
    (line,) = notes_of(selected, "older-torch")
    assert "download.pytorch.org does not answer (HTTP 503); 2.13.0+cpu" in line


def test_what_a_file_without_a_promised_metadata_requires_is_known_once_it_is_here(tmp_path):
    """A build fetches it again, and compares what it requires."""
    chooser = PageChooser(requires=["filelock >=3", "jinja2"])
    own_place(tmp_path, chooser, "2.13.0+cpu")
    words = ["-f", str(tmp_path), "--accelerator", "cpu", "torch==2.13.0"]
    selected, *_ = choose(tmp_path, *words, chooser=chooser)
    (step,) = [step for step in selected.plan.steps if step.name == "torch"]
    assert set(step.candidate.requires) == {"filelock>=3", "jinja2"}


@pytest.mark.parametrize("version", ["2.13.0", "2.13.0+cu126", "2.12.1+cpu"])
def test_a_place_of_the_person_without_it_is_no_way_out(tmp_path, version):
    chooser = PageChooser(Pages(down=["download.pytorch.org"]))
    own_place(tmp_path, chooser, version)
    words = ["-f", str(tmp_path), "--accelerator", "cpu", "torch>=2.13"]
    with pytest.raises(Refused, match=r"download\.pytorch\.org does not answer"):
        choose(tmp_path, *words, chooser=chooser)


def test_a_torch_of_which_less_is_known_does_not_refuse_an_older_one(tmp_path):
    chooser = PageChooser(Pages(down=["download.pytorch.org"]))
    chooser.is_known = lambda *_, **__: None
    selected, *_ = choose(
        tmp_path, "torch", "torch-scatter", here=machine(driver="535.104.05"), chooser=chooser
    )
    assert torch_of(selected) == "2.10.0"
    (line,) = notes_of(selected, "older-torch")
    assert "download.pytorch.org does not answer (HTTP 503)" in line


def test_an_older_release_of_pips_index_serves_where_no_host_may_be_asked(tmp_path):
    chooser = PageChooser(offline="--offline")
    selected, *_ = choose(tmp_path, "torch", here=machine(driver="535.104.05"), chooser=chooser)
    assert torch_of(selected) == "2.10.0"
    (line,) = notes_of(selected, "older-torch")
    assert "download.pytorch.org was not asked (--offline)" in line


PINNED = "torch==2.15.0"


def test_a_driver_that_is_here_refuses_nothing_where_there_is_no_other_build(tmp_path):
    selected, _, installer, said = choose(tmp_path, PINNED, here=machine(driver="470.57.02"))
    assert torch_of(selected) == "2.15.0"
    assert any("needs driver 580" in line for line in said)
    assert len(installer.questions) == 1, "pip's plan is taken as it is"


@pytest.mark.parametrize("driver", ["535.104.05", "470.57.02"])
def test_pip_is_not_asked_for_every_release(tmp_path, driver):
    """Its only place is a folder with one torch, and no host may be asked."""
    chooser, installer = PageChooser(offline="--no-index"), PackageIndex("2.15.0")
    selected, _, _, said = choose(
        tmp_path, "torch", here=machine(driver=driver), chooser=chooser, installer=installer
    )
    assert torch_of(selected) == "2.15.0"
    assert any("needs driver 580" in line for line in said)
    (line,) = notes_of(selected, "other-build")
    assert "is not known: download.pytorch.org was not asked" in line
    assert len(installer.questions) <= 4


def test_a_folder_that_has_another_build_of_an_older_release(tmp_path):
    """For the CPU: it does not come silently, and pip is not asked for it again and again."""
    here = machine(driver="535.104.05", gpu="8.0")
    chooser = PageChooser(offline="--no-index")
    installer = PackageIndex(named={"2.10.0": "2.10.0+cpu", "2.9.1": "2.9.1+cpu"})
    selected, *_ = choose(tmp_path, "torch", here=here, chooser=chooser, installer=installer)
    assert torch_of(selected) == "2.15.0"
    assert [lines[0] for lines in installer.questions[1:]] == [
        "torch==2.10.0",
        "torch==2.9.1",
        "torch==2.15.0",
    ]


def test_a_declared_driver_refuses(tmp_path):
    with pytest.raises(Refused, match="needs driver 580"):
        choose(tmp_path, PINNED, here=machine(driver="470.57.02", declared=True))


@pytest.mark.parametrize(
    ("words", "here", "pages"),
    [
        ([PINNED], machine(driver="470.57.02", declared=True), Pages()),
        (["-U", "torch"], machine(torch="2.13.0+cpu"), Pages(down=["download.pytorch.org"])),
    ],
    ids=["driver", "accelerator"],
)
def test_what_is_refused_is_not_said_to_come(tmp_path, monkeypatch, words, here, pages):
    said = []
    monkeypatch.setattr(Notes, "note", lambda _, text: said.append(text))
    with pytest.raises(Refused):
        choose(tmp_path, *words, here=here, chooser=PageChooser(pages))
    assert not any("will be installed" in line for line in said), said


def test_never_a_build_for_the_cpu_where_there_is_a_gpu(tmp_path):
    """Not even where that is all that runs: then the person has to say so."""
    here = machine(driver="390.157", cuda="9.1", gpu="6.1")
    selected, *_ = choose(tmp_path, "torch", here=here)
    assert torch_of(selected) == "2.15.0"


# --- --accelerator --------------------------------------------------------------------------------

ASKED = [
    (["--accelerator", "cu126", "torch"], {}, "2.14.1+cu126"),
    (["--accelerator", "cpu", "torch"], {}, "2.15.0+cpu"),
    (["--accelerator", "cpu", "torch<2.14"], {}, "2.13.0+cpu"),
    (["--accelerator", "cu132", "torch"], {}, "2.15.0"),  # the build of pip's own index
    (["--accelerator", "cpu", "torch"], {"driver": "580.65.06", "gpu": "9.0"}, "2.15.0+cpu"),
    (["torch==2.13.0+cu126"], {}, "2.13.0+cu126"),
    (["torch==2.12.1+cu126"], {"driver": "580.65.06"}, "2.12.1+cu126"),
    (["--accelerator", "rocm6.4", "torch"], {}, "2.9.1+rocm6.4"),
    # the build of pip's own index, whose version is another one
    (["torch==2.14.1+cu130"], {}, "2.14.1+cu130"),
]


@pytest.mark.parametrize(("words", "fields", "version"), ASKED)
def test_the_accelerator_that_was_asked_for(tmp_path, words, fields, version):
    pin = next((word for word in words if "+" in word), "")
    selected, _, installer, _ = choose(
        tmp_path, *words, here=machine(**fields), installer=PackageIndex(requirement=pin)
    )
    assert torch_of(selected) == version
    assert len(installer.questions) == 1


def test_a_release_that_only_the_page_knows(tmp_path):
    """torch.json has no 2.15.0 for CUDA 12.6; the page may have it meanwhile."""
    pages = Pages()
    pages._add("cu126", "torch", ["2.15.0+cu126"], True, True)
    selected, *_ = choose(tmp_path, "--accelerator", "cu126", "torch", chooser=PageChooser(pages))
    assert torch_of(selected) == "2.15.0+cu126"


def test_a_page_of_thousands_of_releases_is_no_reason_for_as_many_questions(tmp_path):
    pages = Pages()
    pages._add("cu126", "torch", [f"9.{one}.0+cu126" for one in range(1000)], True, True)
    chooser, looked_up = PageChooser(pages, missing=["torch-scatter"]), []

    def is_known(requirement, environment, *, constraints=()):
        looked_up.append(str(environment.torch.version))
        return False

    chooser.is_known = is_known
    with pytest.raises(NoCandidate):
        choose(tmp_path, "--accelerator", "cu126", "torch", "torch-scatter", chooser=chooser)
    assert looked_up[:2] == ["9.999.0+cu126", "9.998.0+cu126"]
    assert len(looked_up) <= MAX_RELEASES + len(bundled_catalog().torch.releases)


def test_a_compiler_that_its_page_does_not_have_comes_from_nowhere_else(tmp_path):
    """The package index may have something else under its name."""
    chooser = PageChooser(Pages(down=["/rocm6.4/pytorch-triton-rocm/"]))
    with pytest.raises(NoCandidate, match=r"torch needs pytorch-triton-rocm 3\.5\.1"):
        choose(tmp_path, "--accelerator", "rocm6.4", "torch", chooser=chooser)


def test_the_compiler_that_lies_beside_torch_is_shown_too(tmp_path):
    _, _, installer, _ = choose(tmp_path, "--accelerator", "rocm6.4", "torch")
    assert installer.shown == [
        FILE.format(project="pytorch_triton_rocm", version="3.5.1"),
        FILE.format(project="torch", version="2.9.1+rocm6.4"),
    ]


def test_the_variable_of_uv_chooses_and_permits_nothing(tmp_path, monkeypatch):
    uv = {"UV_TORCH_BACKEND": "cpu"}
    selected, *_ = choose(tmp_path / "new", "torch", environ=uv)
    assert torch_of(selected) == "2.15.0+cpu"
    selected, *_ = choose(
        tmp_path / "old", "-U", "torch", here=machine(torch="2.13.0+cu126"), environ=uv
    )
    assert torch_of(selected) == "2.14.1+cu126"


def test_a_pin_comes_before_a_variable(tmp_path):
    installer = PackageIndex(requirement="torch==2.13.0+cu126")
    environ = {"SAFE_INSTALL_ACCELERATOR": "cpu"}
    files = {"r.txt": "torch==2.13.0+cu126"}
    selected, *_ = choose(
        tmp_path, "-r", "r.txt", files=files, environ=environ, installer=installer
    )
    assert torch_of(selected) == "2.13.0+cu126"


NONE = [
    (
        {},
        ["--accelerator", "rocm5.0", "torch"],
        "there is no page https://download.pytorch.org/whl/rocm5.0/torch/",
    ),
    (
        {"offline": "--offline"},
        ["--accelerator", "cu126", "torch"],
        "download.pytorch.org was not asked (--offline)",
    ),
    ({}, ["--accelerator", "cu126", "torch==2.15.0"], "torch 2.15.0 has no build for cu126"),
    (
        {},
        ["torch==2.13.0+cu130"],
        "torch 2.13.0+cu130: https://download.pytorch.org/whl/cu130/torch/ has no wheel of it",
    ),
    (
        {},
        ["torch==2.12.0+cu126"],
        "torch 2.12.0+cu126: https://download.pytorch.org/whl/cu126/torch/ has no wheel of it",
    ),
]


@pytest.mark.parametrize(("fields", "words", "reason"), NONE)
def test_where_there_is_none_it_says_why(tmp_path, fields, words, reason):
    pin = next((word for word in words if "+" in word), "")
    with pytest.raises(NoCandidate) as raised:
        choose(
            tmp_path, *words, chooser=PageChooser(**fields), installer=PackageIndex(requirement=pin)
        )
    assert raised.value.message.startswith("no torch for ") and reason in raised.value.message
    if "not asked" in reason:
        assert raised.value.hint == "Leave --offline out to ask download.pytorch.org."
    if words == ["torch==2.13.0+cu130"]:
        assert raised.value.hint == (
            "The package index has that build: safe-install --accelerator cu130 torch==2.13.0"
        )


def test_where_the_page_is_missing_no_release_is_blamed(tmp_path):
    """And no extension: the oldest torch was named before, as the last one that was tried."""
    pages = Pages()
    del pages.texts[f"{WHL}/cu118/torch/"]
    words = ["--accelerator", "cu118", "torch", "torch-scatter"]
    with pytest.raises(NoCandidate) as raised:
        choose(tmp_path, *words, chooser=PageChooser(pages))
    assert raised.value.message == (
        f"no torch for cu118 can come: there is no page {WHL}/cu118/torch/ (HTTP 404)"
    )
    assert "--accelerator auto" in raised.value.hint


@pytest.mark.parametrize("is_down", [False, True])
def test_pip_is_not_asked_for_an_accelerator_of_no_page(tmp_path, is_down):
    installer = PackageIndex()
    pages = Pages(down=("rocm99.9",) if is_down else ())
    with pytest.raises(NoCandidate, match=r"^no torch for rocm99\.9 can come: ") as raised:
        choose(
            tmp_path,
            "--accelerator",
            "rocm99.9",
            "torch",
            "filelock",
            chooser=PageChooser(pages),
            installer=installer,
        )
    assert installer.questions == []
    expected = "Try again when" if is_down else "--accelerator names rocm99.9: "
    assert raised.value.hint.startswith(expected)


def test_an_accelerator_of_no_page_is_nothing_to_what_is_no_torch(tmp_path, monkeypatch):
    environ = {"SAFE_INSTALL_ACCELERATOR": "rocm99.9"}
    chooser, installer = PageChooser(), PackageIndex("2.15.0")
    with pytest.raises(NoCandidate):
        choose(tmp_path, "filelock", environ=environ, chooser=chooser, installer=installer)
    assert installer.questions != [], "only pip knows that it brings a torch"


def test_a_place_of_the_person_has_an_accelerator_of_no_page(tmp_path):
    chooser = PageChooser()
    own_place(tmp_path, chooser, "2.9.1+rocm99.9")
    words = ["-f", str(tmp_path), "--accelerator", "rocm99.9", "torch"]
    selected, *_ = choose(tmp_path, *words, chooser=chooser)
    assert torch_of(selected) == "2.9.1+rocm99.9"


def test_what_the_declared_driver_does_not_run_is_not_brought_by_name_either(tmp_path):
    here = machine(driver="535.104.05", declared=True)
    with pytest.raises(
        NoCandidate,
        match=r"can come: torch 2\.15\.0\+cu130 and 9 older releases need driver 580\.65\.06 or "
        r"newer, declared is 535\.104\.05 \(CUDA 12\.2\)$",
    ):
        choose(tmp_path, "--accelerator", "cu130", "torch", here=here)


def test_what_was_asked_for_needs_no_note_and_an_older_release_does(tmp_path):
    selected, *_ = choose(tmp_path / "same", "--accelerator", "cpu", "torch")
    assert not selected.findings
    selected, *_ = choose(tmp_path / "older", "--accelerator", "cu126", "torch")
    assert notes_of(selected, "older-torch") == [
        "torch 2.15.0 has no build for cu126; 2.14.1+cu126 is taken"
    ]
    words = ["--accelerator", "cu126", "torch<2.15"]
    selected, *_ = choose(tmp_path / "meant", *words)
    assert not selected.findings


@pytest.mark.parametrize(
    "words",
    [
        ["torch==2.13.0+cu126"],
        ["torch", "-c", "c.txt"],
        ["torch @ https://h/torch-2.13.0%2Bcu126-cp311-cp311-linux_x86_64.whl"],
    ],
)
def test_words_that_contradict_each_other(tmp_path, words):
    with pytest.raises(UsageError) as raised:
        choose(tmp_path, "--accelerator", "cpu", *words, files={"c.txt": "torch==2.13.0+cu126"})
    assert raised.value.exit_status == 2
    assert all(name in raised.value.message for name in ("--accelerator cpu", "2.13.0", "cu126"))


# --- an installed torch ---------------------------------------------------------------------------


def test_an_upgrade_keeps_the_accelerator(tmp_path):
    selected, *_ = choose(tmp_path, "-U", "torch", here=machine(torch="2.13.0+cpu"))
    assert torch_of(selected) == "2.15.0+cpu"
    assert not [finding for finding in selected.findings if finding.check == "torch-accelerator"]


def test_the_newest_of_its_accelerator_stays(tmp_path):
    here = machine(torch="2.14.1+cu126")
    selected, *_ = choose(
        tmp_path, "-U", "torch", here=here, installer=PackageIndex(installed="2.14.1+cu126")
    )
    assert torch_of(selected) is None
    (line,) = notes_of(selected, "older-torch")
    assert line.endswith("2.14.1+cu126 stays")


def test_where_the_host_does_not_answer_an_upgrade_is_refused_as_before(tmp_path):
    chooser = PageChooser(Pages(down=["/cpu/"]))
    with pytest.raises(Refused, match=r"is a build for cpu, and torch 2\.15\.0") as raised:
        choose(tmp_path, "-U", "torch", here=machine(torch="2.13.0+cpu"), chooser=chooser)
    assert raised.value.message.endswith("download.pytorch.org does not answer (HTTP 503)")
    assert raised.value.hint == (
        "Try again when download.pytorch.org answers, or name a mirror with SAFE_INSTALL_MIRRORS. "
        "For the other build: --accelerator cu132."
    )
    assert "torch==2.15.0+cpu" not in raised.value.hint, "it lies on the same host"


def test_the_driver_that_holds_an_upgrade_is_named(tmp_path):
    here = machine(torch="2.14.0+cu130", driver="535.104.05")
    selected, *_ = choose(
        tmp_path, "-U", "torch", here=here, installer=PackageIndex(installed="2.14.0+cu130")
    )
    (note,) = [finding for finding in selected.findings if finding.check == "older-torch"]
    assert note.detail == (
        "torch 2.15.0 needs driver 580.65.06 or newer, here is 535.104.05 (CUDA 12.2); "
        "2.14.0+cu130 stays"
    )
    assert note.hint.startswith("Use a newer driver, or take a build that runs here: ")


@pytest.mark.parametrize("upgrade", [[], ["-U"]])
def test_another_accelerator_by_name(tmp_path, upgrade):
    here = machine(torch="2.13.0+cpu")
    words = [*upgrade, "--accelerator", "cu126", "torch"]
    selected, _, installer, _ = choose(tmp_path, *words, here=here)
    assert torch_of(selected) == ("2.14.1+cu126" if upgrade else "2.13.0+cu126")
    assert notes_of(selected, "torch-accelerator")
    assert len(installer.questions) == 1


def test_the_installed_build_comes_again(tmp_path):
    here = machine(torch="2.14.1+cu126")
    installer = PackageIndex(requirement="torch==2.14.1+cu126")
    selected, *_ = choose(
        tmp_path, "--force-reinstall", "torch==2.14.1+cu126", here=here, installer=installer
    )
    assert torch_of(selected) == "2.14.1+cu126"


def test_the_build_of_pips_index_in_place_of_the_same_release(tmp_path):
    """The installed 2.13.0+cpu meets `torch==2.13.0`."""
    here = machine(torch="2.13.0+cpu")
    _, _, installer, _ = choose(
        tmp_path,
        "--accelerator",
        "cu130",
        "torch",
        here=here,
        installer=PackageIndex("2.15.0", "=2.13.0"),
    )
    assert installer.questions[0][0] == "torch===2.13.0"


# --- what the page promises -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"hashes": False}, []), ({"metadata": False}, []), ({}, ["--require-hashes"])],
)
def test_a_file_is_brought_first_where_its_page_does_not_say_all(tmp_path, fields, words):
    chooser = PageChooser(Pages(**fields), kind=CandidateKind.WHEEL)
    selected, *_ = choose(
        tmp_path, *words, "torch", here=machine(driver="535.104.05"), chooser=chooser
    )
    assert [name for name, _ in chooser.obtained] == ["torch"]
    assert list(selected.artifacts) == ["torch"]


# --- another torch is permitted, and no other accelerator is named --------------------------------

PERMITTED = [
    # installed, words, what comes
    ("2.13.0+cpu", ["--allow-torch-change", "base"], "2.14.1+cpu"),
    ("2.13.0+cu126", ["--allow-torch-change", "base"], "2.14.1+cu126"),
    ("2.13.0+cpu", ["--allow-torch-change", "-U", "torch"], "2.14.1+cpu"),
    ("2.13.0+cpu", ["--allow-torch-change", "torch==2.14.1"], "2.14.1+cpu"),
    # the page has no such build: what is permitted comes
    ("2.9.1+cu129", ["--allow-torch-change", "base"], "2.14.1"),
    # named: another accelerator, and no other release
    ("2.13.0+cpu", ["--allow-torch-change", "--accelerator", "cu130", "torch"], "2.13.0"),
]


@pytest.mark.parametrize(("installed", "words", "version"), PERMITTED)
def test_a_permitted_torch_is_for_the_accelerator_of_the_installed_one(
    tmp_path, installed, words, version
):
    others = {"base": "1.0"} if "base" in words else {}
    installer = PackageIndex("2.14.1", "2.13.0", others=others)
    selected, *_ = choose(tmp_path, *words, here=machine(torch=installed), installer=installer)
    assert torch_of(selected) == version
    assert len(installer.questions) <= 2


def test_what_is_permitted_comes_where_the_host_does_not_answer_and_it_is_said(tmp_path):
    chooser = PageChooser(Pages(down=["download.pytorch.org"]))
    installer = PackageIndex("2.14.1", others={"base": "1.0"})
    words = ["--allow-torch-change", "base"]
    selected, *_ = choose(
        tmp_path, *words, here=machine(torch="2.13.0+cpu"), chooser=chooser, installer=installer
    )
    assert torch_of(selected) == "2.14.1"
    assert len(installer.questions) == 1
    (line,) = notes_of(selected, "other-build")
    assert line == (
        "torch 2.14.1+cu130 comes as pip planned it: whether there is a torch 2.14.1+cpu is not "
        "known: download.pytorch.org does not answer (HTTP 503)"
    )
    (change,) = notes_of(selected, "torch-accelerator")
    assert change.startswith("torch 2.13.0+cpu is a build for cpu, and torch 2.14.1+cu130")
