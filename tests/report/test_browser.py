"""The pages in a real browser: sorting, filtering, playing, no error on the console, and no request to a network."""

import json
import shutil
import time

import pytest

from featcache.report.run_pages import PAGES, write_pages
from tests.report.saved_runs import (
    ARABIC,
    JAPANESE,
    REVERSED,
    SCRIPT,
    make_manifest,
    write_audio,
    write_corpus_cache,
    write_run,
)

pytestmark = pytest.mark.browser
PATIENCE = 30  # seconds; a busy machine needs some


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return the folder of pages of hostile texts, with audio of which one file is missing and one is broken."""
    home = tmp_path_factory.mktemp("browser") / 'a "b" <i> #1 100%'
    names = {"01-1": ARABIC, "01-2": REVERSED, "01-3 text": SCRIPT, "01-4 text": JAPANESE}
    manifest = make_manifest(speakers=("01", ARABIC, SCRIPT, "04"), names=names)
    for number, one in enumerate(manifest):
        one.labels["style"] = (SCRIPT, ARABIC)[number // 2 % 2]
    write_corpus_cache(home, "toy", manifest)
    write_audio(home / "corpora" / "toy", manifest, without=["04-0"])
    (home / "corpora" / "toy" / manifest["04-1"].path).write_bytes(b"no audio")
    write_run(home, "toy", "good", manifest, right=0.9)
    write_run(home, "toy", "bad", manifest, right=0.2, config={"head": SCRIPT, "norm": "none"})
    write_run(home, "toy", "svm", manifest, seeds=1, learns=False, deterministic=True, config={"head": "svm"})
    return write_pages(home=home).path.parent


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("chromium or chromedriver is not installed (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio"):
        options.add_argument(argument)
    options.add_argument("--autoplay-policy=no-user-gesture-required")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture
def opened(browser, pages):
    """Return a function that opens a page; at the end, its console has no error and nothing came from a network."""

    def open_page(name, *, width=1280, scheme="light"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get((pages / name).as_uri())
        return Opened(browser)

    open_page.expected = ()
    browser.get_log("performance"), browser.get_log("browser")
    yield open_page
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert [error for error in errors if not any(one in error for one in open_page.expected)] == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    addresses = {one["params"]["request"]["url"] for one in sent if one["method"] == "Network.requestWillBeSent"}
    assert {address.partition(":")[0] for address in addresses} <= {"file", "data"}
    assert browser.execute_script("return window.hacked") is None


class Opened:
    """An open page."""

    def __init__(self, browser):
        self.browser = browser

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def one(self, selector):
        [found] = self.all(selector)
        return found

    def run(self, script, *arguments):
        return self.browser.execute_script(f"return {script}", *arguments)

    def column(self, title, table):
        """Return the texts of a column of a sorted table."""
        texts = "[...document.querySelectorAll(arguments[0])].map((one) => one.innerText)"
        place = self.run(texts, f"{table} thead th").index(title) + 1
        return self.run(texts, f"{table} tbody tr > :nth-child({place})")

    def head(self, title, table):
        [found] = [head for head in self.all(f"{table} thead th") if head.text.startswith(title)]
        return found

    def wait(self, script, *arguments):
        until = time.monotonic() + PATIENCE
        while not self.run(script, *arguments):
            assert time.monotonic() < until, script
            time.sleep(0.05)


def test_runs_are_sorted_by_mouse_and_keyboard(opened):
    page = opened("report.html")
    column = "Validation UAR (%)"
    assert page.head(column, "#runs").get_attribute("aria-sort") == "descending"

    def values(title):
        return [float(text.split(" ")[0]) for text in page.column(title, "#runs")]

    assert values(column) == sorted(values(column), reverse=True)
    page.head(column, "#runs").find_element("tag name", "button").click()
    assert page.head(column, "#runs").get_attribute("aria-sort") == "ascending"
    assert values(column) == sorted(values(column))
    page.head("Test UAR", "#runs").find_element("tag name", "button").send_keys("\ue007")  # Enter
    assert page.head("Test UAR", "#runs").get_attribute("aria-sort") == "descending"
    assert page.head(column, "#runs").get_attribute("aria-sort") == "none"
    assert values("Test UAR (%)") == sorted(values("Test UAR (%)"), reverse=True)


def test_runs_are_filtered_by_words_and_menus(opened):
    page = opened("report.html")
    field = page.one("#runs input[type=search]")
    field.send_keys("DENSE speak")
    assert page.one("#runs [role=status]").text == "1 of 3 runs"
    assert [text.split("\n")[-1] for text in page.column("Run", "#runs")] == ["good"]
    field.clear()
    field.send_keys("zz")
    assert page.all("#runs tbody tr") == []
    field.clear()
    field.send_keys(" ")
    [menu] = [label for label in page.all("#runs label") if label.text.startswith("Normalisation")]
    [none] = [one for one in menu.find_elements("tag name", "option") if one.text == "none"]
    none.click()
    assert [text.split("\n")[-1] for text in page.column("Run", "#runs")] == ["bad"]


def test_chosen_runs_are_drawn_together(opened):
    page = opened("report.html")
    headings = {one.text for one in page.all("#chosen h3")}
    assert {"Layer weights", "Confusion matrices", "Training curves", "UAR (%) of each speaker"} <= headings
    weights = "#chosen [aria-label='Layer weights of the chosen runs'] path.series"
    assert len(page.all(weights)) == 2  # the support vector machine learns none
    assert len(page.all("#chosen svg[aria-label^='Losses of']")) == 2  # and has no losses
    assert len(page.all("#chosen table.confusion")) == 3
    page.all("#runs tbody input")[0].send_keys(" ")
    assert len(page.all("#chosen table.confusion")) == 2
    assert page.run("document.activeElement.type") == "checkbox"  # the keyboard goes on from there
    while boxes := page.all("#runs tbody input:checked"):
        page.run("arguments[0].click()", boxes[0])
    assert page.one("#chosen").text == "No run is chosen."


def test_utterances_are_filtered_and_audio_is_played(opened):
    page = opened(f"{PAGES}/good.html")
    assert page.one("#utterance-table [role=status]").text == "24 utterances"
    assert page.column("Right (%)", "#utterance-table")[0] == "0"
    page.one("#utterance-table input[type=checkbox]").click()
    assert set(page.column("Right (%)", "#utterance-table")) == {"0"}
    page.one("#utterance-table input[type=checkbox]").click()
    segment = page.one("audio[src$='0-5.wav#t=0.25,0.5']")
    whole = page.one("audio[src$='wav/0-0.wav']")
    assert page.run("arguments[0].networkState", whole) != 2  # nothing is loaded before it is played
    page.run("arguments[0].play()", whole)
    page.wait("arguments[0].currentTime > 0.05 && !arguments[0].error", whole)
    page.run("arguments[0].play()", segment)
    page.wait("arguments[0].currentTime >= 0.25", segment)
    assert page.run("arguments[0].paused", whole)
    page.wait("arguments[0].paused", segment)
    assert page.run("arguments[0].currentTime", segment) == pytest.approx(0.5, abs=0.1)  # the end of the segment


def test_audio_that_is_missing_or_broken_is_told(opened):
    page = opened(f"{PAGES}/good.html")
    cells = dict(
        zip(page.column("Utterance", "#utterance-table"), page.column("Audio", "#utterance-table"), strict=True)
    )
    assert cells["04-0"] == "no audio"
    assert "The audio of 1 utterance was not found." in page.one("body").text
    broken = page.one("audio[aria-label='Audio of 04-1']")
    opened.expected = ("NotSupportedError",)
    page.run("arguments[0].play().catch(() => null)", broken)
    page.wait("document.getElementById('utterance-table').textContent.includes('cannot be played here')")


def test_texts_are_shown_as_they_are_and_in_their_direction(opened):
    page = opened(f"{PAGES}/bad.html")
    assert page.one("h1").text == f"{SCRIPT} · ssl · no normalisation"
    cells = {cell.text: cell for cell in page.all("#utterance-table tbody td:first-child")}
    assert cells[ARABIC].value_of_css_property("direction") == "rtl"
    assert "abc\\u202egnp.exe\\u2028x" in cells
    assert {JAPANESE, SCRIPT} <= set(page.column("Transcript", "#utterance-table"))
    assert {SCRIPT, ARABIC, "01", "04"} == set(page.column("Speaker", "#utterance-table"))


@pytest.mark.parametrize("name", ["report.html", f"{PAGES}/good.html"])
@pytest.mark.parametrize("width", [400, 800, 1280])
def test_a_page_fits_the_window_in_light_and_dark(opened, name, width):
    brightness = {}
    for scheme in ("light", "dark"):
        page = opened(name, width=width, scheme=scheme)
        assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
        for table in page.all("table.sorted, .scroll > table"):
            assert page.run("arguments[0].closest('.scroll') !== null", table)
        colours = [page.run(f"getComputedStyle(document.body).{one}") for one in ("backgroundColor", "color")]
        brightness[scheme] = [sum(map(int, one.strip("rgb()").split(","))) / 765 for one in colours]
        for figure in page.all("figure img"):
            assert figure.value_of_css_property("background-color") == "rgba(255, 255, 255, 1)"
    assert brightness["light"][0] - brightness["light"][1] > 0.7
    assert brightness["dark"][1] - brightness["dark"][0] > 0.7


def test_links_lead_from_the_page_to_the_utterances_and_back(opened):
    page = opened("report.html")
    [link] = [one for one in page.all("#runs a") if one.get_attribute("href").endswith("good.html#utterances")]
    link.click()
    page.wait("document.getElementById('utterance-table') !== null")
    [back] = [one for one in page.all("a") if one.text == "All runs"]
    back.click()
    page.wait("document.getElementById('runs') !== null")
