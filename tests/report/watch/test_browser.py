"""The page that follows a search, in a real browser."""

import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from fixtures.browser import browser  # noqa: F401  a fixture
from fixtures.process import wait_until

from ferray.records.run import Run
from ferray.report.watch import server as module
from ferray.report.watch.server import PageServer
from ferray.report.watch.status import LiveStatus

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.slow
def test_the_page_reloads_for_a_new_record_and_keeps_the_filter_the_order_and_the_place(
    browser: "Browser",  # noqa: F811
    going_run: Run,
    report: Callable[..., LiveStatus],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BUILD_S", 0.0)
    report(going_run, num_ended=4, total=6)
    with PageServer(going_run) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        page = browser.new_page(viewport={"width": 1280, "height": 700}, reduced_motion="reduce")
        page.set_default_timeout(120_000)
        faults: list[str] = []
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(server.url)
        page.wait_for_selector("html[data-drawn]")
        page.locator("#live", has_text="4/6 trials").wait_for()
        page.fill("#filter", "state=done")
        page.locator("#table thead button", has_text="dropout").click()
        page.evaluate("scrollTo(0, 600)")
        before = page.evaluate("document.documentElement.dataset.version")

        record = going_run.read_trials()[1]
        going_run.write_trial(dataclasses.replace(record, state="done"))
        page.locator(f"html[data-drawn]:not([data-version='{before}'])").wait_for(state="attached")
        wait_until(lambda: page.evaluate("scrollY") == 600)
        assert page.input_value("#filter") == "state=done"
        assert page.locator("#table [aria-sort]").inner_text().startswith("dropout")
        assert page.locator("#table tbody tr").count() == 3
        assert faults == []
        page.close()
        server.shutdown()
        thread.join()
