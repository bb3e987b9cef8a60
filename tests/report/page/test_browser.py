"""Promises of the page in a real browser: no network, no name is taken for code, and everybody can use it."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fixtures.browser import OpenPage

from ferray.records.run import Run
from ferray.report.page.write import write_comparison, write_page
from ferray.report.results.compared.comparison import compare_searches
from ferray.report.results.compared.searches import read_compared
from ferray.report.wording import setting_text

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page


IS_FRESH = """!document.documentElement.dataset.theme && !document.getElementById('filter').value
    && document.querySelector('[value="best"]').checked && document.getElementById('earlier').disabled
    && document.querySelector('[aria-sort]').textContent === 'validation accuracy'"""


@pytest.fixture(scope="module")
def opened(browser: "Browser", ended_page: Path) -> Iterator[OpenPage]:
    """The page of a search that has ended, in the light theme."""
    opened = OpenPage(browser, ended_page)
    yield opened
    opened.page.close()


@pytest.fixture
def page(opened: OpenPage) -> "Page":
    """The same page, as it is after it was loaded."""
    opened.page.emulate_media(media="screen", color_scheme="light")
    if not opened.page.evaluate(IS_FRESH):
        opened.page.evaluate("localStorage.clear()")
        opened.page.reload()
        opened.page.wait_for_selector("html[data-drawn]")
    return opened.page


def axe_source() -> str:
    """axe-core, which looks for what keeps people out."""
    spec = find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "axe.min.js").read_text()


def column(page: "Page", title: str) -> list[str]:
    """The cells of a column of the table of trials, from the top."""
    titles = page.locator("#table thead th").all_inner_texts()
    place = next(number for number, text in enumerate(titles, start=1) if re.sub(r"[^\w ]", "", text).strip() == title)
    return page.locator(f"#table tbody td:nth-child({place})").all_inner_texts()


def heading(page: "Page", title: str) -> "Locator":
    return page.get_by_role("button", name=title, exact=True)


def test_the_page_draws_every_plot_without_an_error_and_asks_for_nothing(opened: OpenPage, ended_run: Run) -> None:
    plots = opened.page.locator("[data-chart]")

    assert opened.faults == []
    assert {url.split(":")[0] for url in opened.requests} == {"file"}
    assert set(opened.requests) == {(ended_run.folder / "report.html").as_uri()}
    assert plots.count() >= 9
    for number in range(plots.count()):
        assert plots.nth(number).locator("svg").count() == 1, plots.nth(number).get_attribute("data-chart")
        assert plots.nth(number).locator("svg .mark-symbol path, svg .mark-line path, svg .mark-rect path").count()


def test_the_page_may_not_connect_anywhere(page: "Page") -> None:
    refused_by = page.evaluate("""() => new Promise(resolve => {
        document.addEventListener('securitypolicyviolation', event => resolve(event.effectiveDirective));
        fetch('https://example.org/').catch(() => setTimeout(() => resolve('the network alone'), 200));
    })""")

    assert refused_by == "connect-src"


def test_a_script_that_is_not_the_pages_own_does_not_run(page: "Page") -> None:
    page.evaluate("""() => {
        const element = document.createElement('script');
        element.textContent = 'document.title = "taken over"';
        document.body.append(element);
    }""")

    assert "taken over" not in page.title()


def test_a_heading_sorts_its_column_and_a_second_click_turns_it_around(page: "Page") -> None:
    heading(page, "seconds").click()
    ascending = [float(text) for text in column(page, "seconds")]
    heading(page, "seconds").click()
    descending = [float(text) for text in column(page, "seconds")]

    assert ascending == sorted(ascending)
    assert descending == sorted(descending, reverse=True)
    assert page.locator("#table th[aria-sort]").get_attribute("aria-sort") == "descending"


def test_a_filter_keeps_the_trials_for_which_all_conditions_hold(page: "Page") -> None:
    page.get_by_label("Filter").fill("state=stopped batch_size>=64 light")
    states, sizes = column(page, "state"), column(page, "batch size")

    assert 0 < len(states) < 60
    assert set(states) == {"stopped"}
    assert set(sizes) <= {"64", "128"}
    assert set(column(page, "augmentation")) == {"light"}
    assert page.locator("#count").inner_text() == f"{len(states)} of 60 trials"


def test_the_table_writes_settings_as_all_other_parts_do(page: "Page", ended_run: Run) -> None:
    records = {str(record.number): record.recipe for record in ended_run.read_trials()}
    numbers = column(page, "trial")

    for name in ("learning_rate", "dropout", "batch_size", "augmentation"):
        cells = column(page, name.replace("_", " "))
        assert cells == [setting_text(name, getattr(records[number], name)) for number in numbers]


def test_words_sort_in_their_own_order(page: "Page") -> None:
    heading(page, "augmentation").click()
    words = column(page, "augmentation")

    assert words == sorted(words, key=["none", "light"].index)
    assert len(set(words)) == 2


def test_rows_beyond_a_page_are_a_button_away(page: "Page") -> None:
    first = column(page, "trial")
    page.get_by_role("button", name="Next rows").click()

    assert len(first) == 50
    assert len({*first, *column(page, "trial")}) == 60
    assert page.get_by_role("button", name="Next rows").is_disabled()


def test_a_trial_links_to_its_folder(page: "Page", ended_run: Run) -> None:
    link = page.locator("#table tbody a").first.evaluate("link => link.href")

    assert link.startswith((ended_run.folder / "trials").as_uri())
    assert (ended_run.trial_dir(link.rstrip("/").rsplit("/", 1)[1]) / "record.json").exists()


def test_pointing_at_a_trial_says_which_it_is(page: "Page") -> None:
    page.locator("#gap svg .mark-symbol path").first.hover()
    page.wait_for_selector("#vg-tooltip-element.visible")

    assert re.search(r"trial\s*\d+", page.locator("#vg-tooltip-element").inner_text())


def test_the_switch_changes_the_theme_of_plots_too_and_is_remembered(page: "Page") -> None:
    def colors() -> tuple[str, str]:
        plain = "getComputedStyle(document.body).backgroundColor"
        label = "getComputedStyle(document.querySelector('#gap .role-axis-label text')).fill"
        return page.evaluate(plain), page.evaluate(label)

    light = colors()
    page.get_by_role("button", name="Dark theme").click()
    dark = colors()
    page.reload()
    page.wait_for_selector("html[data-drawn]")

    assert light[0] != dark[0]
    assert light[1] != dark[1]
    assert colors() == dark
    assert page.get_by_role("button", name="Light theme").count() == 1


def test_without_the_switch_the_page_follows_the_system(page: "Page") -> None:
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")

    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert page.locator("#theme").inner_text() == "Light theme"


def test_paper_is_light_and_has_no_buttons(page: "Page") -> None:
    page.get_by_role("button", name="Dark theme").click()
    page.emulate_media(media="print")

    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("button:visible").count()


def test_a_cell_of_a_heatmap_shows_what_is_asked_for(page: "Page") -> None:
    cell = page.locator(".cell").first
    shown = [cell.inner_text()]
    for name in ("its mean score", "its number of points"):
        page.get_by_label(name).check()
        shown.append(cell.inner_text())
    best, mean, num = (float(re.sub(r"[^\d.]", "", text)) for text in shown)

    assert best >= mean
    assert num == int(num) >= 1
    assert ["†" in text for text in shown] == [True, True, False]  # stopped trials have a score of fewer epochs


def test_the_keyboard_reaches_theme_filter_headings_and_tables(page: "Page") -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(300):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("`${document.activeElement.tagName} ${document.activeElement.id}`"))
        if page.evaluate("document.activeElement === document.body"):
            break
    page.locator("#theme").focus()
    page.keyboard.press("Enter")
    heading(page, "epochs").focus()
    page.keyboard.press("Space")

    assert {"BUTTON theme", "INPUT filter", "BUTTON later", "SUMMARY ", "DIV ", "INPUT ", "A "} <= reached
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert column(page, "epochs") == sorted(column(page, "epochs"))


def test_no_part_is_wider_than_a_phone(browser: "Browser", hostile_run: Run) -> None:
    opened = OpenPage(browser, write_page(hostile_run).file, width=390)

    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    opened.page.close()


def test_on_a_phone_all_axes_of_the_points_are_seen_without_scrolling(browser: "Browser", ended_page: Path) -> None:
    opened = OpenPage(browser, ended_page, width=360)
    texts = "#parallel svg .role-mark text"

    def box_of(title: str) -> dict[str, float]:
        box = opened.page.locator(texts, has_text=re.compile(f"^{title}$")).last.bounding_box()
        assert box is not None
        return dict(box)  # type: ignore[call-overload]

    titles = ("learning rate", "dropout", "batch size", "augmentation", "validation accuracy")
    phone = [box_of(title) for title in titles]
    opened.page.set_viewport_size({"width": 1280, "height": 900})
    opened.page.wait_for_function("document.querySelector('#parallel svg').clientWidth > 800")
    desk = [box_of(title) for title in titles]
    opened.page.close()

    assert opened.faults == []
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 360 for box in phone)
    assert len({round(box["y"]) for box in phone}) == len(titles)  # below each other
    assert len({round(box["y"]) for box in desk}) == 1  # beside each other


def test_axe_finds_nothing_that_keeps_people_out(page: "Page") -> None:
    page.get_by_label("Filter").fill("light batch_size=16")  # rows that are alike tell axe nothing more
    assert page.locator("#table tbody tr").count() > 3
    found = run_axe(page)

    assert found["light"] == []
    assert found["dark"] == []


def run_axe(page: "Page") -> dict[str, list[tuple[str, Any, str]]]:
    """What axe-core finds against WCAG 2.2 AA with every part open; in the dark theme of colors, all that differs."""
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    page.evaluate(axe_source())
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    faults = {}
    for theme, asked in (("light", tags), ("dark", {"type": "rule", "values": ["color-contrast"]})):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        found = page.evaluate("asked => axe.run({runOnly: asked, resultTypes: ['violations']})", asked)
        assert len(found["passes"]) > (15 if theme == "light" else 0)
        nodes = [(one["id"], node) for one in found["violations"] for node in one["nodes"]]
        faults[theme] = [(name, node["target"], node["failureSummary"]) for name, node in nodes]
    return faults


def test_no_name_is_taken_for_code(browser: "Browser", hostile_run: Run) -> None:
    opened = OpenPage(browser, write_page(hostile_run, pictures=True).file)
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    for place in page.locator("#table tbody td, .confusion th, code, .canvas svg .mark-symbol path").all()[:12]:
        place.hover(force=True)
    elements = page.evaluate("""() => Array.from(document.querySelectorAll('*'))
        .filter(one => Array.from(one.attributes).some(it => it.name.startsWith('on')) || one.tagName === 'B'
            || (one.tagName === 'IMG' && !one.src.startsWith('data:')))
        .map(one => one.outerHTML.slice(0, 200))""")
    scripts = page.locator("script:not([type])").count()
    texts = page.locator(".confusion tbody th").all_inner_texts()
    names = page.locator("h1").inner_text()
    reasons = page.locator("#table td.long").all_inner_texts()
    link = page.locator("#table tbody a").first.evaluate("link => link.href")
    page.close()

    assert opened.faults == []
    assert elements == []
    assert scripts == 2
    assert "<script>alert(1)</script>" in texts
    assert names == hostile_run.name
    assert any("</script><script>alert(7)</script> <b>bold</b>" in reason for reason in reasons)
    assert link.startswith((hostile_run.folder / "trials").as_uri())


@pytest.mark.slow
def test_axe_finds_nothing_in_a_hostile_search(browser: "Browser", hostile_run: Run) -> None:
    opened = OpenPage(browser, write_page(hostile_run, pictures=True).file)
    found = run_axe(opened.page)
    opened.page.close()

    assert found == {"light": [], "dark": []}


def test_a_comparison_draws_its_plots_keeps_nobody_out_and_takes_no_name_for_code(
    browser: "Browser", ended_run: Run, hostile_run: Run, tmp_path: Path
) -> None:
    searches = read_compared([ended_run.folder, hostile_run.folder], force=True)
    opened = OpenPage(browser, write_comparison(compare_searches(searches), tmp_path / "page.html").file, width=390)
    found, width = run_axe(opened.page), opened.page.evaluate("document.documentElement.scrollWidth")
    lines = opened.page.locator("[data-chart] svg .mark-line path").count()
    images = opened.page.locator("img").count()
    opened.page.close()

    assert opened.faults == []
    assert found == {"light": [], "dark": []}
    assert (lines, images) == (6, 0)
    assert width <= 390
