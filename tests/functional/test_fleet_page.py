"""The page of a fleet in a real browser: hostile names stay text, and nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from safe_install.fleet.page import render_page

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

TAKEN = "document.title='taken'"
HOSTILE = f'</td></table><script>{TAKEN}</script><img src=x onerror="{TAKEN}"><!--'
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


def test_what_a_node_says_is_text(browser, tmp_path):
    rows = [
        {
            "name": f"n{number}",
            "torch": "2.8.0",
            "outcome": outcome,
            "before": {"alpha": None},
            "after": {"alpha": "2"},
            "reason": HOSTILE,
        }
        for number, outcome in enumerate(("changed", "refused"))
    ]
    details = {"verb": "install", "run": "20261130T010203Z-abcdef", "nodes": rows}
    page = tmp_path / "page.html"
    page.write_text(render_page(HOSTILE, "installed", details), encoding="utf-8")
    browser.get(page.as_uri())
    assert browser.title == "safe-install fleet install"
    cells = browser.find_elements(By.TAG_NAME, "td")
    assert len(cells) == 10
    assert [cells[4].text, cells[9].text] == [HOSTILE, HOSTILE]
    assert cells[3].text == "alpha none -> 2"
    assert not browser.find_elements(By.CSS_SELECTOR, "img, script")
    colours = {cells[n].value_of_css_property("color") for n in (2, 7)}
    assert len(colours) == 2
    entries = browser.execute_script("return performance.getEntriesByType('resource').length")
    assert entries == 0
