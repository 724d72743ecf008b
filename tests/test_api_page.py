"""The page in a headless browser: it writes, streams, stops, and shows what a lost link does to the text."""

import re
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from api_server import MODEL, expected, open_api
from faults import FaultProxy
from stubs import StubTarget, serving

from edgespec.api.page_routes import FILES, FOLDER
from edgespec.edge.link_options import LinkOptions

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WAIT_MS = 20_000


class HeldTarget(StubTarget):
    """After a few forwards the next one waits until `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        super().__init__(MODEL, before_forward=lambda: self._wait())

    def _wait(self) -> None:
        assert len(self.forwards) < 4 or self.go.wait(60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Any, url: str) -> Any:
    page = browser.new_page()
    page.set_default_timeout(WAIT_MS)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(request.url))
    page.problems = problems
    page.goto(url)
    page.wait_for_selector("#mode option", state="attached")
    return page


def test_the_page_is_small_and_loads_nothing_from_elsewhere() -> None:
    texts = {name: (FOLDER / name).read_text(encoding="utf-8") for name in FILES.values()}
    assert sum(len(text.encode()) for text in texts.values()) < 150_000
    assert not [name for name, text in texts.items() if re.search(r"https?://", text)]
    with open_api() as (url, _):
        for path, name in FILES.items():
            with urllib.request.urlopen(url + path) as answer:
                assert answer.read().decode() == texts[name]
                assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_a_chat_is_written_and_shows_where_its_tokens_came_from(browser: Any, tmp_path: Path) -> None:
    with open_api() as (url, _):
        page = opened(browser, url)
        page.keyboard.press("Tab")
        page.fill("#tokens", "40")
        page.select_option("#mode", "sync")
        page.fill("#prompt", "HELLO")
        page.press("#prompt", "Enter")
        page.wait_for_selector(".message.assistant", state="attached")
        page.wait_for_selector("#stop:disabled")
        assert page.inner_text(".message.assistant .committed") == expected("UHELLOA", 40)
        assert page.locator(".message.assistant .draft").count() > 0
        assert page.locator(".message.assistant .target").count() > 0
        assert page.inner_text("#speed").endswith("tokens/s")
        page.screenshot(path=tmp_path / "page.png")
        page.fill("#prompt", "AND")
        page.press("#prompt", "Enter")
        page.locator(".message.assistant").nth(1).wait_for()
        page.wait_for_selector("#stop:disabled")
        second = page.locator(".message.assistant .committed").nth(1).inner_text()
        assert second == expected("UHELLOA" + expected("UHELLOA", 40) + "UANDA", 40)
        assert page.problems == []
        page.close()


def test_escape_stops_a_text_and_frees_its_place(browser: Any) -> None:
    target = HeldTarget()
    with open_api(target) as (url, door):
        page = opened(browser, url)
        page.fill("#tokens", "400")
        page.fill("#prompt", "HELLO")
        page.press("#prompt", "Enter")
        page.wait_for_selector(".message.assistant .committed span")
        page.keyboard.press("Escape")
        page.wait_for_selector("#send:enabled")
        written = page.inner_text(".message.assistant .committed")
        assert expected("UHELLOA", 400).startswith(written) and len(written) < 400
        page.wait_for_selector("#prompt:focus")
        page.close()
        target.go.set()
    assert door.queue.running == 0


def test_a_lost_link_shows_provisional_text_until_it_is_back(browser: Any) -> None:
    link = LinkOptions(offline_after_s=0.05, give_up_s=20)
    target = HeldTarget()
    with (
        serving(target) as server,
        FaultProxy(server.port) as proxy,
        open_api(port=proxy.port, link=link) as (url, _),
    ):
        page = opened(browser, url)
        page.fill("#tokens", "200")
        page.select_option("#mode", "stream")
        page.fill("#prompt", "HELLO")
        page.press("#prompt", "Enter")
        page.wait_for_selector(".message.assistant .committed span")
        proxy.outage("refuse")
        target.go.set()
        page.wait_for_selector(".message.assistant .provisional:not(:empty)")
        proxy.recover()
        page.wait_for_selector("#stop:disabled")
        assert page.inner_text(".message.assistant .committed") == expected("UHELLOA", 200)
        assert page.inner_text(".message.assistant .provisional") == ""
        assert page.inner_text("#losses") == "1"
        page.close()
