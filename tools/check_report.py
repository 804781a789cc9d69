#!/usr/bin/env python3
"""Opens the report of `flux-rt compare` in a headless Chromium, and uses it as a reader would.

    python tools/check_report.py REPORT.html SCREENSHOT.png

Needs selenium, chromium and chromedriver. The page must load without a message on the console and without
a request, show every picture, and react to its slider, zoom, difference and thumbnails.
"""

import json
import pathlib
import shutil
import sys

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select


def browser():
    """A headless Chromium that may not reach anything and keeps what its console says."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update", "--disable-sync",
                     "--disable-dev-shm-usage", "--window-size=1200,1000", "--host-resolver-rules=MAP * ~NOTFOUND"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    return webdriver.Chrome(options=options, service=service)


def check(report, screenshot):
    """Raises AssertionError with what is wrong."""
    folder = report.parent
    results = json.loads((folder / "results.json").read_text())
    prompts = results["setup"]["prompts"]
    pictures = [(of["name"], picture) for of in results["configurations"] for picture in of["pictures"]]
    driver = browser()
    try:
        driver.get(report.absolute().as_uri())
        one = lambda selector: driver.find_element(By.CSS_SELECTOR, selector)
        every = lambda selector: driver.find_elements(By.CSS_SELECTOR, selector)
        script = driver.execute_script

        # Whatever stands in a prompt is text.
        assert driver.title == f"{results['setup']['model']} on {results['setup']['device']}", driver.title
        headings = [script("return arguments[0].firstChild.textContent.trim()", of) for of in every("#pictures h3")]
        assert headings == prompts, headings

        images = every("#pictures img")
        assert len(images) == len(pictures), f"{len(images)} pictures on the page, {len(pictures)} were made"
        for image in images:
            script("arguments[0].loading = 'eager'; return arguments[0].decode()", image)
            size = [script(f"return arguments[0].natural{side}", image) for side in ["Width", "Height"]]
            assert size == [results["setup"]["width"], results["setup"]["height"]], size
        assert len(every("#means tbody tr")) == len(results["configurations"])
        assert len(every("#all tbody tr")) == len(pictures)
        assert len(every("#charts svg")) == 3
        assert all(of.size["width"] > 300 for of in every("#charts svg"))

        # The edge moves from the right picture alone to the left one alone.
        stage, layers = one("#slider .stage"), one("#slider .layers")
        assert one("#slider").is_displayed()
        assert one("#slider .left").get_attribute("src") != one("#slider .right").get_attribute("src")
        cut = one("#slider [name=cut]")
        def move(value):
            script("arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", cut, value)
            return layers.screenshot_as_png
        shown = [move(value) for value in [0, 500, 1000]]
        assert len(set(shown)) == 3, "the edge moves nothing"
        webdriver.ActionChains(driver).move_to_element(stage).click_and_hold().move_by_offset(40, 0).release().perform()
        assert 500 < int(cut.get_attribute("value")) < 700, cut.get_attribute("value")

        Select(one("#slider [name=zoom]")).select_by_visible_text("4")
        assert layers.size["width"] == 4 * results["setup"]["width"], layers.size
        one("#slider [name=difference]").click()
        assert "difference" in layers.get_attribute("class")
        different = layers.screenshot_as_png
        one("#slider [name=difference]").click()
        assert different != layers.screenshot_as_png
        Select(one("#slider [name=zoom]")).select_by_visible_text("fit")

        last = every("#pictures figure")[-1]
        script("arguments[0].querySelector('button').click()", last)
        for field, name in [("right", "configuration"), ("prompt", "prompt")]:
            assert one(f"#slider [name={field}]").get_attribute("value") == last.get_attribute(f"data-{name}")

        requests = script("return performance.getEntriesByType('resource').map((of) => of.name)")
        assert all(name.startswith("data:") for name in requests), requests
        messages = driver.get_log("browser")
        assert not messages, messages

        script("window.scrollTo(0, 0)")
        height = script("return document.documentElement.scrollHeight")
        driver.set_window_size(1200, min(height + 200, 8000))
        driver.save_screenshot(str(screenshot))
    finally:
        driver.quit()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    check(*map(pathlib.Path, sys.argv[1:]))
    print(f"{sys.argv[1]}: loads without a message, and does what a reader asks", file=sys.stderr)
