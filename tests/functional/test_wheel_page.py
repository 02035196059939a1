"""The wheel finder in a real browser: choosing by hand, sharing by address, and the same choice as the program's."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from safe_install.errors import NoCandidate
from safe_install.index.catalog import bundled_catalog, index_date, known_projects, load_project
from safe_install.index.facts import Build, Doubt, Holds, HostEntry, Layout, PackageIndexEntry, Source
from safe_install.index.finder import Finder
from safe_install.resolve.provider import resolve
from safe_install.system.http import HttpClient
from tests.factories import FakeCatalog, environment_for
from tests.scripts import load_script

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
MISSING = [str(path) for path in (CHROMIUM, DRIVER) if not path.exists()]
if MISSING:
    pytest.skip(f"{' and '.join(MISSING)}: not there (Debian: chromium, chromium-driver)", allow_module_level=True)

from selenium import webdriver  # noqa: E402 - where there is no browser, selenium need not be there
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

FOUNDING = {"torch": "1.8.1", "accelerator": "cu111", "python": "3.8", "platform": "linux_x86_64"}
FOUNDING_URL = "https://data.pyg.org/whl/torch-1.8.0%2Bcu111/torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl"
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


def urls_of(browser):
    cards = browser.find_elements(By.CSS_SELECTOR, "article[data-kind=wheel]")
    return {
        card.get_attribute("data-project"): card.find_element(By.CSS_SELECTOR, "a.url").get_attribute("href")
        for card in cards
    }


def requests_of(browser):
    """What the browser asked for, by its own log of the network."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    listed = browser.execute_script("return performance.getEntries().map((entry) => [entry.entryType, entry.name])")
    loaded = [name for kind, name in listed if kind in ("navigation", "resource")]
    return {url.partition("#")[0] for url in (*sent, *loaded) if not url.startswith(("about:", "data:,"))}


# --- by hand ---------------------------------------------------------------------------------------


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
    browser.execute_script("location.hash = arguments[0]", fragment_of(**{**FOUNDING, "accelerator": "cpu"}))
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert state_of(browser)["accelerator"] == "cpu"
    assert urls_of(browser)["torch-scatter"] == FOUNDING_URL.replace("cu111", "cpu")


def test_what_is_not_known_is_said_and_not_hidden(browser, page):
    open_page(browser, page, fragment_of(torch="9.9.9", accelerator="cu999", project="no-such-project"))
    notice = browser.find_element(By.ID, "notice").text
    assert "torch 9.9.9 is not known here" in notice and "no-such-project is not a project of the index" in notice
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
        "return [...document.querySelectorAll('select, input')].filter((field) => !field.labels.length)"
        ".concat([...document.querySelectorAll('button')].filter((b) => !b.textContent.trim())).map((e) => e.outerHTML)"
    )
    assert unnamed == []
    assert browser.execute_script("return document.documentElement.lang") == "en"


# --- quiet, narrow and safe ------------------------------------------------------------------------


def test_nothing_is_asked_and_nothing_complains(browser, page):
    open_page(browser, page, fragment_of(**FOUNDING))
    for project in ("torch-scatter", ""):
        Select(browser.find_element(By.ID, "project")).select_by_value(project)
    browser.execute_script("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert requests_of(browser) == {page.as_uri()}
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [320, 360, 400])
def test_a_phone_scrolls_one_way(browser, page, width):
    metrics = {"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        many = {"torch": "2.8.0", "accelerator": "cu128", "python": "3.12"}
        for choice in (many, {**FOUNDING, "project": "torch-scatter"}, {**many, "project": "flash-attn"}):
            open_page(browser, page, fragment_of(**choice))
            browser.execute_script(
                "document.querySelectorAll('details').forEach((details) => { details.open = true; })"
            )
            measure = "const e = document.documentElement; return [innerWidth, e.clientWidth, e.scrollWidth]"
            inner, client, scroll = browser.execute_script(measure)
            assert inner == width
            assert scroll <= client
            heights = "return [...document.querySelectorAll('select, button, summary')].map((e) => e.offsetHeight)"
            assert min(browser.execute_script(heights)) >= 40
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_text_of_a_document_stays_text(browser, builder, tmp_path):
    real = load_project("torch-scatter")
    host = HostEntry(HOSTILE, Layout.FIND_LINKS, "plain", pages=("https://wheels.example/{torch}<b>/",), note=HOSTILE)
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
    browser.execute_script("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    card = browser.find_element(By.CSS_SELECTOR, "article[data-project=made-up]")
    assert card.text.count(HOSTILE) >= 5
    assert browser.find_elements(By.CSS_SELECTOR, "main img, main script, main b") == []
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 2
    assert browser.title == "Wheel finder for PyTorch extensions"
    assert urls_of(browser)["torch-scatter"] == FOUNDING_URL
    assert browser.get_log("browser") == []


def test_documents_of_unusual_shape_have_their_say(browser, builder, tmp_path):
    bare = replace(
        load_project("torch-scatter"), hosts=(), aliases=(), builds=(), sdists=(), recipe=None, requires=(), doubts=()
    )
    astral = HostEntry("wheels.astral.sh", Layout.SIMPLE, "astral", pages=("https://wheels.astral.sh/{accelerator}/",))
    github = HostEntry("github.com/a/b", Layout.GITHUB_RELEASES, "plain", repository="a/b")
    row = Build("", "1.8.0", "1.0", ("cu111",), "linux_x86_64", ("3.8",))
    foreign = PackageIndexEntry(Holds.ANOTHER_PROJECT)
    source = Source("https://github.com/a/b", "b @ git+https://github.com/a/b")
    documents = {
        "nothing": ("unknown", {}),
        "only-a-page": ("page", {"hosts": (astral,), "builds": (replace(row, host=astral.host),)}),
        "only-a-release": ("page", {"hosts": (github,), "builds": (replace(row, host=github.host),)}),
        "another": ("other", {"package_index": foreign, "source": source}),
        "only-source": ("source", {"package_index": PackageIndexEntry(Holds.SDISTS)}),
        "for-cuda-12": ("name", {"accelerator": "cu12", "family": (canonicalize_name("for-cuda-11"),)}),
        "for-cuda-11": ("unknown", {"accelerator": "cu11", "family": (canonicalize_name("for-cuda-12"),)}),
    }
    projects = [replace(bare, name=canonicalize_name(name), **changes) for name, (_, changes) in documents.items()]
    path = tmp_path / "unusual.html"
    path.write_text(builder.build_page(projects, "2026-11-24"), "utf-8")
    open_page(browser, path, fragment_of(**FOUNDING))
    cards = {card.get_attribute("data-project"): card for card in browser.find_elements(By.TAG_NAME, "article")}
    kinds = {name: card.get_attribute("data-kind") for name, card in cards.items()}
    assert kinds == {name: kind for name, (kind, _) in documents.items()}
    assert "https://wheels.astral.sh/cu111/" in cards["only-a-page"].text
    assert "https://github.com/a/b/releases/tag/v1.0" in cards["only-a-release"].text
    assert "pip install --no-build-isolation 'b @ git+https://github.com/a/b'" in cards["another"].text
    assert "for-cuda-11" in cards["for-cuda-12"].text
    assert browser.get_log("browser") == []


# --- the same choice as the program's --------------------------------------------------------------


def sample(builder):
    """Choices of every project, half of them at random and half near a wheel that the index knows; always the same."""
    dice = random.Random(7)
    platforms = [key for key, _, _ in builder.PLATFORMS]
    everything = builder.releases()
    found = [("torch-scatter", *FOUNDING.values())]
    for name in sorted(known_projects()):
        project = load_project(name)
        for _ in range(4):
            release = dice.choice(everything)
            accelerator, python = dice.choice(builder.accelerators_of(release)), dice.choice(release.python)
            found.append((name, release.version, accelerator, python, dice.choice(platforms)))
        for build in dice.sample(project.builds, min(len(project.builds), 8)):
            minor = build.torch.split(".")[:2]
            near = [release for release in everything if release.version.split(".")[:2] == minor]
            for release in near[:1] + near[-1:]:
                fields = [platform for platform in platforms if platform.split("_")[-1] in build.platform] or platforms
                accelerators = [a for a in build.accelerators if a in builder.accelerators_of(release)]
                accelerator = dice.choice(accelerators or builder.accelerators_of(release))
                python = dice.choice(build.python if not build.abi else release.python)
                found.append((name, release.version, accelerator, python, dice.choice(fields)))
        for wheel in dice.sample(project.wheels, min(len(project.wheels), 4)):
            release = dice.choice(everything[:6])
            accelerator, python = dice.choice(builder.accelerators_of(release)), dice.choice(release.python)
            fields = [platform for platform in platforms if platform.split("_")[-1] in wheel.url] or platforms
            found.append((name, release.version, accelerator, python, dice.choice(fields)))
    return list(dict.fromkeys(found))


def chosen_by_program(builder, name, torch, accelerator, python, platform, *, others):
    tag = next(tag for key, _, tag in builder.PLATFORMS if key == platform)
    named = {host.host for project in known_projects() for host in load_project(project).hosts if host.optional}
    finder = Finder(
        http=HttpClient(offline=True),
        catalog=bundled_catalog(),
        offline=True,
        third_party=named if others else (),
    )
    environment = environment_for(torch=f"{torch}+{accelerator}", python_version=python, platform=tag)
    try:
        found = resolve(
            [Requirement(name)], environment, find=finder.find, catalog=bundled_catalog(), allow_build=False
        )
    except NoCandidate:
        return None
    return next(pin.link.url for pin in found.pins if pin.name == name)


def test_of_equals_the_earlier_host_and_the_nearer_tag_win(browser, builder, tmp_path):
    hosts = [
        HostEntry(name, Layout.FIND_LINKS, "plain", (f"https://{name}/",), f"https://{name}/{{torch}}/{{file}}")
        for name in ("first.example", "second.example")
    ]
    rows = [
        Build(host.host, "1.8.0", "1.0", ("cu111",), platform, ("3.7",) if abi else ("3.8",), abi=abi)
        for host in reversed(hosts)
        for abi in ("abi3", None)
        for platform in ("linux_x86_64", "manylinux2014_x86_64", "manylinux_2_28_x86_64")
    ]
    made_up = replace(load_project("torch-scatter"), name=canonicalize_name("made-up"), hosts=tuple(hosts))
    path = tmp_path / "equals.html"
    for count in (1, 3, 6, 9, len(rows)):
        project = replace(made_up, builds=tuple(rows[:count]), recipe=None)
        path.write_text(builder.build_page([project], "2026-11-24"), "utf-8")
        open_page(browser, path)
        by_page = browser.execute_script("return window.chooseWheel('made-up', ...arguments)", *FOUNDING.values())
        catalog = FakeCatalog(project)
        finder = Finder(http=HttpClient(offline=True), catalog=catalog, offline=True)
        environment = environment_for(torch="1.8.1+cu111", python_version="3.8", platform="manylinux_2_36_x86_64")
        found = resolve([Requirement("made-up")], environment, find=finder.find, catalog=catalog)
        assert by_page == found.pins[0].link.url
    assert by_page == "https://first.example/1.8.0/made_up-1.0-cp38-cp38-manylinux_2_28_x86_64.whl"


@pytest.mark.parametrize("others", [False, True])
def test_the_page_chooses_what_the_program_chooses(browser, page, builder, others):
    choices = sample(builder)
    assert len(choices) >= 300
    if others:  # nothing changes for projects that have no such host
        choices = [choice for choice in choices if any(host.optional for host in load_project(choice[0]).hosts)]
    open_page(browser, page)
    ask = "return arguments[0].map((choice) => window.chooseWheel(...choice, arguments[1]))"
    by_page = browser.execute_script(ask, choices, others)
    by_program = [chosen_by_program(builder, *choice, others=others) for choice in choices]
    differ = [
        f"{choice}: page {url}, program {wanted}"
        for choice, url, wanted in zip(choices, by_page, by_program)
        if url != wanted
    ]
    assert differ == []
    if others:
        return
    chosen = [(choice, url) for choice, url in zip(choices, by_page) if url]
    assert len(chosen) > 100
    for word in ("abi3", "win_amd64", "aarch64", "%2B", "-none-"):
        assert any(word in url for _, url in chosen), word
    if "flash-attn" in known_projects():
        assert any(choice[0] == "flash-attn" for choice, _ in chosen)


def test_the_date_of_the_facts_is_shown(browser, page):
    open_page(browser, page)
    assert index_date() in browser.find_element(By.TAG_NAME, "header").text
