"""The wheel finder in a real browser: choosing by hand, sharing by address, and the same choice as
the program's."""

from __future__ import annotations

import functools
import itertools
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.errors import NoCandidate
from safe_install.index.catalog import bundled_catalog, index_date, known_projects, load_project
from safe_install.index.facts import (
    Build,
    Doubt,
    GpuCode,
    Holds,
    HostEntry,
    Layout,
    PackageIndexEntry,
    Source,
)
from safe_install.index.finder import Finder
from safe_install.resolve.provider import resolve
from safe_install.resolve.torch_ranking import Exclusion, TorchTerms, rank_torches
from safe_install.system.http import HttpClient
from safe_install.tags import parse_device_capabilities
from tests.factories import FakeCatalog, environment_for
from tests.scripts import load_script

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
MISSING = [str(path) for path in (CHROMIUM, DRIVER) if not path.exists()]
if MISSING:
    pytest.skip(
        f"{' and '.join(MISSING)}: not there (Debian: chromium, chromium-driver)",
        allow_module_level=True,
    )

from selenium import webdriver  # noqa: E402 - where there is no browser, selenium need not be there
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

FOUNDING = {"torch": "1.8.1", "accelerator": "cu111", "python": "3.8", "platform": "linux_x86_64"}
FOUNDING_URL = (
    "https://data.pyg.org/whl/torch-1.8.0%2Bcu111/torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl"
)
WANTED = "#all=torch-scatter,torchvision&driver=560.35&gpu=8.0&python=3.11&platform=linux_x86_64"
CONFLICT = (
    "#all=torch-scatter,flash-attn,vllm&driver=560.35&gpu=8.0&python=3.11&platform=linux_x86_64"
)
HEIGHTS = """
    const controls = [...document.querySelectorAll('select, button, summary, input')];
    const shown = controls.filter((control) => control.checkVisibility() && control.type !== 'checkbox');
    return shown.map((control) => control.offsetHeight);
"""
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"><!--<script>"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


@pytest.fixture(scope="module")
def builder():
    return load_script("build_wheel_page")


@pytest.fixture(scope="module")
def page(builder, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "wheels.html"
    assert builder.main([str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=str(DRIVER)))
    yield driver
    driver.quit()


def open_page(browser, path, fragment=""):
    browser.get("about:blank")  # a new fragment alone would not load the page again
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(f"{path.as_uri()}{fragment}")


def fragment_of(**values):
    return "#" + "&".join(f"{key}={value}" for key, value in values.items())


def state_of(browser):
    return {
        name: Select(browser.find_element(By.ID, name)).first_selected_option.get_attribute("value")
        for name in FOUNDING
    }


def urls_of(browser, answer="#answer"):
    cards = browser.find_elements(By.CSS_SELECTOR, f"{answer} article[data-kind=wheel]")
    return {
        card.get_attribute("data-project"): card.find_element(
            By.CSS_SELECTOR, "a.url"
        ).get_attribute("href")
        for card in cards
    }


def requests_of(browser):
    """What the browser asked for, by its own log of the network."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    listed = browser.execute_script(
        "return performance.getEntries().map((entry) => [entry.entryType, entry.name])"
    )
    loaded = [name for kind, name in listed if kind in ("navigation", "resource")]
    return {
        url.partition("#")[0]
        for url in (*sent, *loaded)
        if not url.startswith(("about:", "data:,"))
    }


# --- by hand --------------------------------------------------------------------------------------


def test_choosing_by_hand_answers_the_founding_question(browser, page):
    open_page(browser, page)
    for name, value in FOUNDING.items():
        Select(browser.find_element(By.ID, name)).select_by_value(value)
    assert urls_of(browser)["torch-scatter"] == FOUNDING_URL
    Select(browser.find_element(By.ID, "project")).select_by_value("torch-scatter")
    assert urls_of(browser) == {"torch-scatter": FOUNDING_URL}
    assert browser.current_url == page.as_uri() + fragment_of(**FOUNDING, project="torch-scatter")
    (anchor,) = browser.find_elements(By.CSS_SELECTOR, "a.url")
    assert anchor.text == FOUNDING_URL
    commands = [code.text for code in browser.find_elements(By.CSS_SELECTOR, "article code")]
    assert commands == ["safe-install torch-scatter", f"pip install --no-deps {FOUNDING_URL}"]
    assert FOUNDING_URL.rpartition("/")[2] in browser.find_element(By.ID, "summary").text


def test_a_torch_narrows_what_can_be_chosen(browser, page):
    open_page(browser, page, fragment_of(torch="1.8.1"))
    for name, values in {
        "accelerator": ["cpu", "cu101", "cu102", "cu111"],
        "python": ["3.9", "3.8", "3.7", "3.6"],
    }.items():
        options = Select(browser.find_element(By.ID, name)).options
        assert [option.get_attribute("value") for option in options] == values
    assert "CUDA 11.1 (cu111)" in browser.find_element(By.ID, "accelerator").text


def test_the_address_restores_the_answer(browser, page):
    open_page(browser, page, fragment_of(**FOUNDING, project="torch-scatter"))
    assert (state_of(browser), urls_of(browser)) == (FOUNDING, {"torch-scatter": FOUNDING_URL})
    browser.execute_script(
        "location.hash = arguments[0]", fragment_of(**{**FOUNDING, "accelerator": "cpu"})
    )
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert state_of(browser)["accelerator"] == "cpu"
    assert urls_of(browser)["torch-scatter"] == FOUNDING_URL.replace("cu111", "cpu")


def test_what_is_not_known_is_said_and_not_hidden(browser, page):
    open_page(
        browser, page, fragment_of(torch="9.9.9", accelerator="cu999", project="no-such-project")
    )
    notice = browser.find_element(By.ID, "notice").text
    assert (
        "torch 9.9.9 is not known here" in notice
        and "no-such-project is not a project of the index" in notice
    )
    assert "impossible" not in browser.find_element(By.TAG_NAME, "body").text


def test_the_filter_keeps_the_names_that_contain_it(browser, page):
    open_page(browser, page, fragment_of(**FOUNDING))
    shown = "return [...document.querySelectorAll('article')].map((card) => card.dataset.project)"
    assert sorted(browser.execute_script(shown)) == sorted(known_projects())
    browser.find_element(By.ID, "filter").send_keys("torch_SC")
    assert browser.execute_script(shown) == ["torch-scatter"]


def test_every_control_has_a_label_and_every_button_a_name(browser, page):
    open_page(browser, page, fragment_of(**FOUNDING))
    unnamed = browser.execute_script(
        "return [...document.querySelectorAll('select, input')].filter((field) => "
        "!field.labels.length)"
        ".concat([...document.querySelectorAll('button')].filter((b) => "
        "!b.textContent.trim())).map((e) => e.outerHTML)"
    )
    assert unnamed == []
    assert browser.execute_script("return document.documentElement.lang") == "en"


# --- quiet, narrow and safe -----------------------------------------------------------------------


def test_nothing_is_asked_and_nothing_complains(browser, page):
    open_page(browser, page, fragment_of(**FOUNDING))
    for project in ("torch-scatter", ""):
        Select(browser.find_element(By.ID, "project")).select_by_value(project)
    browser.execute_script(
        "document.querySelectorAll('details').forEach((details) => { details.open = true; })"
    )
    assert requests_of(browser) == {page.as_uri()}
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [320, 360, 400])
def test_a_phone_scrolls_one_way(browser, page, width):
    metrics = {"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        many = {"torch": "2.8.0", "accelerator": "cu128", "python": "3.12"}
        fragments = [
            fragment_of(**choice)
            for choice in (
                many,
                {**FOUNDING, "project": "torch-scatter"},
                {**many, "project": "flash-attn"},
            )
        ]
        fragments += [WANTED, CONFLICT]
        for fragment in fragments:
            open_page(browser, page, fragment)
            browser.execute_script(
                "document.querySelectorAll('details').forEach((details) => { details.open = true; "
                "})"
            )
            measure = "const e = document.documentElement; return [innerWidth, e.clientWidth, e.scrollWidth]"
            inner, client, scroll = browser.execute_script(measure)
            assert inner == width
            assert scroll <= client
            assert min(browser.execute_script(HEIGHTS)) >= 40
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_text_of_a_document_stays_text(browser, builder, tmp_path):
    real = load_project("torch-scatter")
    host = HostEntry(
        HOSTILE,
        Layout.FIND_LINKS,
        "plain",
        pages=("https://wheels.example/{torch}<b>/",),
        note=HOSTILE,
    )
    hostile = replace(
        real,
        name=canonicalize_name("made-up"),
        hosts=(host,),
        builds=(),
        recipe=None,
        doubts=(Doubt(HOSTILE, HOSTILE),),
        package_index=replace(real.package_index, note=HOSTILE),
        checked=HOSTILE,
    )
    path = tmp_path / "hostile.html"
    path.write_text(builder.build_page([real, hostile], HOSTILE), "utf-8")
    open_page(browser, path, fragment_of(**FOUNDING))
    browser.execute_script(
        "document.querySelectorAll('details').forEach((details) => { details.open = true; })"
    )
    card = browser.find_element(By.CSS_SELECTOR, "article[data-project=made-up]")
    assert card.text.count(HOSTILE) >= 5
    assert browser.find_elements(By.CSS_SELECTOR, "main img, main script, main b") == []
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 2
    assert browser.title == "Wheel finder for PyTorch extensions"
    assert urls_of(browser)["torch-scatter"] == FOUNDING_URL
    assert browser.get_log("browser") == []


def test_documents_of_unusual_shape_have_their_say(browser, builder, tmp_path):
    bare = replace(
        load_project("torch-scatter"),
        hosts=(),
        aliases=(),
        builds=(),
        sdists=(),
        recipe=None,
        requires=(),
        doubts=(),
    )
    astral = HostEntry(
        "wheels.astral.sh",
        Layout.SIMPLE,
        "astral",
        pages=("https://wheels.astral.sh/{accelerator}/",),
    )
    github = HostEntry("github.com/a/b", Layout.GITHUB_RELEASES, "plain", repository="a/b")
    row = Build("", "1.8.0", "1.0", ("cu111",), "linux_x86_64", ("3.8",))
    foreign = PackageIndexEntry(Holds.ANOTHER_PROJECT)
    source = Source("https://github.com/a/b", "b @ git+https://github.com/a/b")
    documents = {
        "nothing": ("unknown", {}),
        "only-a-page": ("page", {"hosts": (astral,), "builds": (replace(row, host=astral.host),)}),
        "only-a-release": (
            "page",
            {"hosts": (github,), "builds": (replace(row, host=github.host),)},
        ),
        "another": ("other", {"package_index": foreign, "source": source}),
        "only-source": ("source", {"package_index": PackageIndexEntry(Holds.SDISTS)}),
        "for-cuda-12": (
            "name",
            {"accelerator": "cu12", "family": (canonicalize_name("for-cuda-11"),)},
        ),
        "for-cuda-11": (
            "unknown",
            {"accelerator": "cu11", "family": (canonicalize_name("for-cuda-12"),)},
        ),
    }
    projects = [
        replace(bare, name=canonicalize_name(name), **changes)
        for name, (_, changes) in documents.items()
    ]
    path = tmp_path / "unusual.html"
    path.write_text(builder.build_page(projects, "2026-11-24"), "utf-8")
    open_page(browser, path, fragment_of(**FOUNDING))
    cards = {
        card.get_attribute("data-project"): card
        for card in browser.find_elements(By.TAG_NAME, "article")
    }
    kinds = {name: card.get_attribute("data-kind") for name, card in cards.items()}
    assert kinds == {name: kind for name, (kind, _) in documents.items()}
    assert "https://wheels.astral.sh/cu111/" in cards["only-a-page"].text
    assert "https://github.com/a/b/releases/tag/v1.0" in cards["only-a-release"].text
    assert (
        "pip install --no-build-isolation 'b @ git+https://github.com/a/b'" in cards["another"].text
    )
    assert "for-cuda-11" in cards["for-cuda-12"].text
    assert browser.get_log("browser") == []


# --- the same choice as the program's -------------------------------------------------------------


def sample(builder):
    """Choices of every project, half of them at random and half near a wheel that the index knows;
    always the same."""
    dice = random.Random(7)
    platforms = [key for key, _, _ in builder.PLATFORMS]
    everything = builder.releases()
    found = [("torch-scatter", *FOUNDING.values())]
    for name in sorted(known_projects()):
        project = load_project(name)
        for _ in range(4):
            release = dice.choice(everything)
            accelerator, python = (
                dice.choice(builder.accelerators_of(release)),
                dice.choice(release.python),
            )
            found.append((name, release.version, accelerator, python, dice.choice(platforms)))
        for build in dice.sample(project.builds, min(len(project.builds), 8)):
            minor = build.torch.split(".")[:2]
            near = [release for release in everything if release.version.split(".")[:2] == minor]
            for release in near[:1] + near[-1:]:
                fields = [
                    platform for platform in platforms if platform.split("_")[-1] in build.platform
                ] or platforms
                accelerators = [
                    a for a in build.accelerators if a in builder.accelerators_of(release)
                ]
                accelerator = dice.choice(accelerators or builder.accelerators_of(release))
                python = dice.choice(build.python if not build.abi else release.python)
                found.append((name, release.version, accelerator, python, dice.choice(fields)))
        for wheel in dice.sample(project.wheels, min(len(project.wheels), 4)):
            release = dice.choice(everything[:6])
            accelerator, python = (
                dice.choice(builder.accelerators_of(release)),
                dice.choice(release.python),
            )
            fields = [
                platform for platform in platforms if platform.split("_")[-1] in wheel.url
            ] or platforms
            found.append((name, release.version, accelerator, python, dice.choice(fields)))
    return list(dict.fromkeys(found))


def chosen_by_program(builder, name, torch, accelerator, python, platform, *, others):
    """The address, and whether a wheel is known (None: only a host can tell)."""
    tag = next(tag for key, _, tag in builder.PLATFORMS if key == platform)
    named = {
        host.host
        for project in known_projects()
        for host in load_project(project).hosts
        if host.optional
    }
    finder = Finder(
        http=HttpClient(offline=True),
        catalog=bundled_catalog(),
        offline=True,
        third_party=named if others else (),
    )
    environment = environment_for(
        torch=f"{torch}+{accelerator}", python_version=python, platform=tag
    )
    try:
        found = resolve(
            [Requirement(name)],
            environment,
            find=finder.find,
            catalog=bundled_catalog(),
            allow_build=False,
        )
    except NoCandidate as error:
        return None, None if error.is_open else False
    return next(pin.link.url for pin in found.pins if pin.name == name), True


@pytest.mark.long
def test_of_equals_the_earlier_host_and_the_nearer_tag_win(browser, builder, tmp_path):
    hosts = [
        HostEntry(
            name,
            Layout.FIND_LINKS,
            "plain",
            (f"https://{name}/",),
            f"https://{name}/{{torch}}/{{file}}",
        )
        for name in ("first.example", "second.example")
    ]
    rows = [
        Build(
            host.host, "1.8.0", "1.0", ("cu111",), platform, ("3.7",) if abi else ("3.8",), abi=abi
        )
        for host in reversed(hosts)
        for abi in ("abi3", None)
        for platform in ("linux_x86_64", "manylinux2014_x86_64", "manylinux_2_28_x86_64")
    ]
    made_up = replace(
        load_project("torch-scatter"), name=canonicalize_name("made-up"), hosts=tuple(hosts)
    )
    path = tmp_path / "equals.html"
    for count in (1, 3, 6, 9, len(rows)):
        project = replace(made_up, builds=tuple(rows[:count]), recipe=None)
        path.write_text(builder.build_page([project], "2026-11-24"), "utf-8")
        open_page(browser, path)
        by_page = browser.execute_script(
            "return window.chooseWheel('made-up', ...arguments)", *FOUNDING.values()
        )
        catalog = FakeCatalog(project)
        finder = Finder(http=HttpClient(offline=True), catalog=catalog, offline=True)
        environment = environment_for(
            torch="1.8.1+cu111", python_version="3.8", platform="manylinux_2_36_x86_64"
        )
        found = resolve([Requirement("made-up")], environment, find=finder.find, catalog=catalog)
        assert by_page == found.pins[0].link.url
    assert by_page == "https://first.example/1.8.0/made_up-1.0-cp38-cp38-manylinux_2_28_x86_64.whl"


@pytest.mark.parametrize("others", [False, True])
def test_the_page_chooses_what_the_program_chooses(browser, page, builder, others):
    choices = sample(builder)
    assert len(choices) >= 300
    if others:  # nothing changes for projects that have no such host
        choices = [
            choice
            for choice in choices
            if any(host.optional for host in load_project(choice[0]).hosts)
        ]
    open_page(browser, page)
    answer = "[window.chooseWheel(...choice, arguments[1]), window.isWheelKnown(...choice, arguments[1])]"
    by_page = browser.execute_script(
        f"return arguments[0].map((choice) => {answer})", choices, others
    )
    by_program = [list(chosen_by_program(builder, *choice, others=others)) for choice in choices]
    differ = [
        f"{choice}: page {answer}, program {wanted}"
        for choice, answer, wanted in zip(choices, by_page, by_program)
        if answer != wanted
    ]
    assert differ == []
    if others:
        return
    assert {known for _, known in by_page} == {True, False, None}
    chosen = [(choice, url) for choice, (url, _) in zip(choices, by_page) if url]
    assert len(chosen) > 100
    for word in ("abi3", "win_amd64", "aarch64", "%2B", "-none-"):
        assert any(word in url for _, url in chosen), word
    if "flash-attn" in known_projects():
        assert any(choice[0] == "flash-attn" for choice, _ in chosen)


# --- which torch has all of them ------------------------------------------------------------------

# Together in real projects.
REQUESTS = (
    ("torchvision", "torchaudio"),
    ("torch-scatter", "torchvision"),
    ("torch-scatter", "torch-sparse", "torch-cluster", "torch-spline-conv", "pyg-lib"),
    ("flash-attn", "torchvision"),
    ("flash-attn-3",),
    ("torchcodec", "torchaudio"),
    ("dgl", "torchdata"),
    ("xformers",),
    ("cupy-cuda13x",),
    ("fbgemm-gpu-cpu",),
)
# One that has no wheel anywhere, and some that exclude each other.
CONFLICTS = (
    ("torch-scatter", "flash-attn", "vllm"),
    ("xformers", "vllm", "detectron2", "cupy-cuda12x"),
    ("nvdiffrast", "torchvision"),
)
# (driver, GPU, asked for): before and behind the floors of CUDA 11, 12 and 13, and what is not
# declared.
MACHINES = (
    ("", "", ""),
    ("", "", "cpu"),
    ("", "", "cu126"),
    ("", "9.0", ""),
    ("390", "3.7", ""),
    ("470.57.02", "8.0", ""),
    ("525.60.13", "", ""),
    ("535.104.05", "7.0", ""),
    ("560.35", "8.0", ""),
    ("560.35", "8.0", "cu118"),
    ("560.35", "8.0", "cpu"),
    ("580", "12.0", ""),
    ("595.45.04", "9.0", ""),
)
QUESTIONS = (
    *itertools.product(REQUESTS, MACHINES, [("3.11", "linux_x86_64")]),
    *itertools.product(REQUESTS, MACHINES[2::3], [("3.9", "linux_x86_64")]),
    *itertools.product(
        REQUESTS[:2],
        MACHINES[::2],
        [
            ("3.12", "win_amd64"),
            ("3.11", "linux_aarch64"),
            ("3.11", "macos_arm64"),
            ("3.9", "macos_x86_64"),
        ],
    ),
    *itertools.product(CONFLICTS, MACHINES[8:10], [("3.11", "linux_x86_64")]),
)


class Program:
    """The answers of the program, offline."""

    def __init__(self, torches, catalog=None):
        self.torches = torches
        self.catalog = catalog or bundled_catalog()
        self.finder = Finder(http=HttpClient(offline=True), catalog=self.catalog, offline=True)
        self.find = functools.lru_cache(maxsize=None)(self._find)
        self.ranked = functools.lru_cache(maxsize=None)(self._ranked)
        self.wheels = functools.lru_cache(maxsize=None)(self._wheels)
        self.machine = functools.lru_cache(maxsize=None)(self._machine)

    def _machine(self, python, tag):
        return environment_for(torch=None, python_version=python, platform=tag)

    def _find(self, name, build, python, tag):
        return self.finder.find(name, replace(self.machine(python, tag), torch=build))

    def _ranked(self, driver, gpu, accelerator, python, tag):
        here = replace(self.machine(python, tag), driver=self.torches.declared(driver or None, gpu))
        return rank_torches(None, TorchTerms(accelerator=accelerator), here, self.catalog)

    def _wheels(self, names, build, driver, python, tag):
        """By name the address of the wheel for this torch; None where one has none. `driver`: a
        declared Driver."""
        here = replace(self.machine(python, tag), torch=build, driver=driver)

        def find(name, environment, *, wanted=None):
            return self.find(name, build, python, tag)

        requirements = [Requirement(name) for name in names]
        try:
            found = resolve(requirements, here, find=find, catalog=self.catalog, allow_build=False)
        except NoCandidate:
            return None
        return {pin.name: pin.link.url for pin in found.pins}

    def options(self, driver, gpu, accelerator, python, tag):
        """Without builds that were asked for and do not exist: the page says it of the release's
        own build."""
        releases = self.catalog.torch.releases
        return [
            one
            for one in self.ranked(driver, gpu, accelerator, python, tag)
            if one.is_on_index
            or one.build.accelerator in releases[one.release].accelerators
            or "linux" not in tag
        ]

    def lacking(self, names, build, driver, gpu, python, tag):
        """The projects without a wheel for this torch; all of them where they exclude each
        other."""
        declared = self._least(names, driver, gpu)
        missing = [
            name for name in names if self.wheels((name,), build, declared, python, tag) is None
        ]
        return (
            missing
            if missing or self.wheels(tuple(names), build, declared, python, tag)
            else list(names)
        )

    def choose(self, names, driver, gpu, accelerator, python, tag):
        """The first torch that has all, or None; its wheels; [version, missing] of those before it
        that may come."""
        passed = []
        for option in self.options(driver, gpu, accelerator, python, tag):
            if option.excluded is None:
                missing = self.lacking(names, option.build, driver, gpu, python, tag)
                if not missing:
                    wheels = self.wheels(
                        names, option.build, self._least(names, driver, gpu), python, tag
                    )
                    return option.version, [wheels[name] for name in names], passed
                passed.append([option.version, missing])
        return None, [], passed

    def _least(self, names, driver, gpu):
        """The oldest driver that starts the same builds, and the GPU where it counts: answers are
        found again."""
        # those of Windows, too
        floors = ("450.80.02", "452.39", "525.60.13", "527.41", "580.65.06")
        here = Version(driver or "0").release
        reached = [floor for floor in floors if here >= Version(floor).release[: len(here)]]
        is_of_use = any(self.catalog.project(name).gpu_code for name in names)
        return self.torches.declared(
            reached[-1] if reached else driver or None, gpu if is_of_use else ""
        )

    def kinds(self, *machine):
        """By version, why a build may not come; "wheel" where it may."""
        return {
            option.version: KINDS.get(option.excluded, "wheel") for option in self.options(*machine)
        }

    def conflict(self, names, driver, gpu, accelerator, python, tag):
        """The smallest set of wishes that no torch meets, and (without, version) of the fewest to
        take back."""
        option = f"--accelerator {accelerator}"
        lacking = {}  # by version
        for asked in (accelerator, ""):
            for one in self.options(driver, gpu, asked, python, tag):
                if one.excluded is None and one.version not in lacking:
                    missing = (
                        [] if one.build.accelerator == accelerator or not accelerator else [option]
                    )
                    lacking[one.version] = missing + self.lacking(
                        names, one.build, driver, gpu, python, tag
                    )
        if not lacking:
            return [], []
        wishes = [option, *names] if accelerator else list(names)
        some = itertools.chain.from_iterable(
            itertools.combinations(wishes, size) for size in range(1, len(wishes) + 1)
        )
        smallest = next(
            group
            for group in some
            if all(set(group) & set(missing) for missing in lacking.values())
        )
        fewest = min(map(len, lacking.values()))
        ways = {}
        for version, missing in lacking.items():
            if len(missing) == fewest:
                ways.setdefault(tuple(missing), version)
        return list(smallest), [[list(missing), version] for missing, version in ways.items()]


KINDS = {
    Exclusion.PYTHON: "python",
    Exclusion.PLATFORM: "build",
    Exclusion.BUILD: "build",
    Exclusion.ACCELERATOR: "accelerator",
    Exclusion.DRIVER: "driver",
}


@pytest.mark.long
def test_the_page_names_the_torch_that_the_program_takes(browser, page, builder):
    program = Program(load_script("wheel_page_torches"))
    tags = {key: tag for key, _, tag in builder.PLATFORMS}
    questions = [(names, *machine, *place) for names, machine, place in QUESTIONS]
    open_page(browser, page)
    ask = "return arguments[0].map((question) => window.chooseTorch(...question))"
    answers = browser.execute_script(ask, questions)
    for question, answer in zip(questions, answers):
        names, *machine, platform = question
        machine.append(tags[platform])
        taken, wheels, passed = program.choose(names, *machine)
        by_page = [
            [version, missing] for version, kind, missing in answer["passed"] if kind == "wheel"
        ]
        assert [answer["torch"], answer["wheels"], by_page] == [taken, wheels, passed], question
        kinds = program.kinds(*machine)
        assert [kinds[version] for version, _, _ in answer["passed"]] == [
            kind for _, kind, _ in answer["passed"]
        ]
        conflict, ways = program.conflict(names, *machine) if taken is None else ([], [])
        assert [answer["conflict"], answer["ways"]] == [conflict, ways], question
    taken = {answer["torch"] for answer in answers}
    assert len(taken) > 20 and None in taken
    assert {len(answer["conflict"]) for answer in answers} >= {0, 1, 2}


def test_a_wheel_without_code_for_the_gpu_is_not_named(browser, builder, tmp_path):
    host = HostEntry(
        "h.example",
        Layout.FIND_LINKS,
        "plain",
        ("https://h.example/",),
        "https://h.example/{torch}/{file}",
    )
    torches = ("2.8.0", "2.9.0")
    rows = [
        Build(host.host, torch, version, ("cu126", "cu128"), "linux_x86_64", ("3.11",))
        for torch in torches
        for version in ("1.0", "2.0")
    ]
    code = (
        GpuCode(SpecifierSet(">=2"), parse_device_capabilities(["12.0"]), accelerators=("cu128",)),
        GpuCode(SpecifierSet(">=2"), parse_device_capabilities(["9.0"])),
        GpuCode(SpecifierSet("<2"), parse_device_capabilities(["7.0", "8.0"])),
    )
    project = replace(
        load_project("torch-scatter"),
        name=canonicalize_name("made-up"),
        hosts=(host,),
        builds=tuple(rows),
        gpu_code=code,
        recipe=None,
    )
    path = tmp_path / "gpu.html"
    path.write_text(builder.build_page([project], "2026-11-24"), "utf-8")
    program = Program(load_script("wheel_page_torches"), FakeCatalog(project))
    open_page(browser, path)
    seen = set()
    for gpu, accelerator in itertools.product(
        ("", "6.0", "7.5", "8.6", "9.0", "12.0"), ("", "cpu", "cu126", "cu128")
    ):
        question = (["made-up"], "560.35", gpu, accelerator, "3.11", "linux_x86_64")
        answer = browser.execute_script("return window.chooseTorch(...arguments)", *question)
        taken, wheels, _ = program.choose(("made-up",), *question[1:-1], "manylinux_2_36_x86_64")
        assert [answer["torch"], answer["wheels"]] == [taken, wheels], question
        seen.add(tuple(wheels))
    assert len(seen) == 3  # none, 1.0 and 2.0


def test_the_page_orders_the_builds_as_the_program_for_any_driver(browser, page, builder):
    torches = load_script("wheel_page_torches")
    program = Program(torches)
    dice = random.Random(5)
    drivers = ["0", "346", "580", "999.1.2"]
    for step in dice.sample(torches.driver_steps(), 8):
        parts = [int(part) for part in step.split(".")]
        before = [*parts[:-1], max(parts[-1] - 1, 0)]
        drivers += [
            step,
            step.split(".")[0],
            ".".join(map(str, before)),
            ".".join(map(str, [*parts, 9][:3])),
        ]
    questions = [
        (["nvdiffrast"], driver, dice.choice(["", "5.0", "8.6", "12.0"]), "", "3.11", platform)
        for driver, platform in zip(
            drivers, itertools.cycle(["linux_x86_64", "win_amd64", "linux_x86_64"])
        )
    ]
    open_page(browser, page)
    ask = "return arguments[0].map((question) => window.chooseTorch(...question).passed)"
    tags = {key: tag for key, _, tag in builder.PLATFORMS}
    for question, passed in zip(questions, browser.execute_script(ask, questions)):
        machine = (*question[1:-1], tags[question[-1]])
        assert {version: kind for version, kind, _ in passed} == program.kinds(*machine), question
        may_come = [
            option.version for option in program.options(*machine) if option.excluded is None
        ]
        assert [version for version, kind, _ in passed if kind == "wheel"] == may_come, question


def test_choosing_by_hand_names_a_torch_and_the_command(browser, page):
    open_page(browser, page)
    browser.find_element(By.ID, "to-torch").click()
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert not browser.find_element(By.ID, "wheel-view").is_displayed()
    browser.find_element(By.ID, "add").send_keys("torch_scatter, torchvision\n")
    browser.find_element(By.ID, "driver").send_keys("560.35\n")
    for name, value in (
        ("gpu", "8.0"),
        ("python-there", "3.11"),
        ("platform-there", "linux_x86_64"),
    ):
        Select(browser.find_element(By.ID, name)).select_by_value(value)
    assert browser.current_url == page.as_uri() + WANTED
    (torch,) = browser.find_elements(By.CSS_SELECTOR, "article[data-torch]")
    version, _, accelerator = torch.get_attribute("data-torch").partition("+")
    assert accelerator == "cu126"
    command = torch.find_element(By.TAG_NAME, "code").text
    assert command == f"safe-install --accelerator cu126 torch=={version} torch-scatter torchvision"
    assert "needs driver 580.65.06 or newer" in torch.text
    urls = urls_of(browser, "#answer-there")
    assert set(urls) == {"torch-scatter", "torchvision"}
    assert all("cu126" in url and "cp311" in url for url in urls.values())
    browser.find_element(
        By.CSS_SELECTOR, "#chosen button[aria-label='Remove torch-scatter']"
    ).click()
    assert "torch-scatter" not in browser.current_url
    assert browser.get_log("browser") == []


def test_a_conflict_names_who_exclude_each_other_and_what_gives_way(browser, page):
    open_page(browser, page, CONFLICT)
    (card,) = browser.find_elements(By.CSS_SELECTOR, "article[data-conflict]")
    assert card.get_attribute("data-conflict") == "torch-scatter vllm"
    assert "torch-scatter and vllm exclude each other" in card.text
    way = card.find_element(By.PARTIAL_LINK_TEXT, "torch 2.8.0")
    assert "Without vllm" in card.text
    way.click()
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert set(urls_of(browser, "#answer-there")) == {"torch-scatter", "flash-attn"}
    open_page(browser, page, "#all=vllm&driver=560.35&accelerator=cu118&python=3.11")
    (card,) = browser.find_elements(By.CSS_SELECTOR, "article[data-conflict]")
    assert "--accelerator cu118 and vllm exclude each other, as far as is known here" in card.text
    assert "Without --accelerator cu118: torch 2." in card.text
    assert "Without vllm" not in card.text  # nothing would be left
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("platform", ["linux_aarch64", "win_amd64", "macos_arm64"])
def test_what_is_not_known_here_is_not_denied(browser, page, platform):
    """There are wheels of torchvision for these platforms; the bundled facts list none."""
    open_page(browser, page, f"#all=torchvision&python=3.11&platform={platform}")
    (card,) = browser.find_elements(By.CSS_SELECTOR, "article[data-conflict]")
    title = card.find_element(By.TAG_NAME, "h3").text
    assert title == "Whether a torch that may come has a wheel of torchvision is not known here"


def test_what_cannot_be_asked_is_said(browser, page):
    open_page(
        browser,
        page,
        "#all=torch,torch-scatter,no-such&driver=535.x&gpu=1.0&python=2.7&platform=amiga",
    )
    notice = browser.find_element(By.ID, "notice-there").text
    for part in (
        "535.x is no driver version",
        "no-such: not in the wheel index",
        "1.0",
        "2.7",
        "amiga",
    ):
        assert part in notice
    assert "all=torch-scatter&" in browser.current_url
    assert browser.find_elements(By.CSS_SELECTOR, "article[data-torch]")


def test_the_date_of_the_facts_is_shown(browser, page):
    open_page(browser, page)
    assert index_date() in browser.find_element(By.TAG_NAME, "header").text
