"""The README's moving picture: the API's page writes a text while its link is cut and comes back.

    python -m benchmarks.page_picture docs/demo/page.gif

Needs Chromium, and the packages playwright and pillow. The target is paced at 28 ms, the link emulated with 40 ms.
"""

from __future__ import annotations

import io
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from PIL import Image

from edgespec.cli.child import started
from edgespec.core.address import Address
from edgespec.core.errors import EdgespecError

WIDTH, HEIGHT, SCALE = 1000, 560, 0.7
FRAME_S = 0.16
CUT_S, BACK_S, END_S = 2.5, 4.0, 10.0
"""From the text's first token: when the link is cut, when it is back, and when the film ends."""

COLOURS = 24
RTT_MS = "40"


def main() -> int:
    path = Path(sys.argv[1])
    with ExitStack() as stack:
        frames = film(*browser_page(stack))
    shown_ms = [round(1e3 * seconds) for _, seconds in frames]
    first, *others = (image for image, _ in frames)
    first.save(path, save_all=True, append_images=others, duration=shown_ms, loop=0, optimize=True)
    print(f"{path}: {len(frames)} frames, {path.stat().st_size >> 10} KiB")
    return 0


def browser_page(stack: ExitStack) -> tuple[Any, Link]:
    """The page of an API whose server is behind a link that can be cut."""
    serve = ["serve", "--port", "0", "--threads", "1", "--verify-pace-ms", "28", "--colocated-draft", "none"]
    server = stack.enter_context(started(serve, "starting the server ...")).address
    link = stack.enter_context(Link(server))
    api = ["api", "--server", link.address, "--offline-after-s", "0.3", "--port", "0", "--no-memory"]
    host, port = stack.enter_context(started(api, "starting the API ...")).address
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise EdgespecError("the picture needs Chromium: install it.")
    from playwright.sync_api import sync_playwright

    playwright = stack.enter_context(sync_playwright())
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    stack.callback(browser.close)
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(f"http://{host}:{port}")
    page.wait_for_selector("#mode option", state="attached")
    return page, link


def film(page: Any, link: Link) -> list[tuple[Image.Image, float]]:
    """Pictures, each with the seconds that it is shown."""
    page.fill("#tokens", "400")
    page.fill("#prompt", "import os\n\n\ndef read_lines(path):")
    page.press("#prompt", "Enter")
    page.wait_for_selector(".message.assistant .committed span", state="attached")
    frames, worker = [], ThreadPoolExecutor(1)
    begins_s = now_s = time.monotonic()
    acts = [(CUT_S, link.cut), (BACK_S, link.begin)]  # each takes a while
    while now_s - begins_s < END_S:
        if acts and now_s - begins_s >= acts[0][0]:
            worker.submit(acts.pop(0)[1])
        image = picture(page)
        page.wait_for_timeout(1e3 * max(0.0, now_s + FRAME_S - time.monotonic()))
        shown_s, now_s = time.monotonic() - now_s, time.monotonic()
        frames.append((image, shown_s))
    worker.shutdown()
    return frames


def picture(page: Any) -> Image.Image:
    image = Image.open(io.BytesIO(page.screenshot(type="png"))).convert("RGB")
    small = image.resize((round(WIDTH * SCALE), round(HEIGHT * SCALE)), Image.Resampling.LANCZOS)
    return small.quantize(COLOURS, dither=Image.Dither.NONE)


class Link:
    """An emulated link that can be cut, and comes back at the same address."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = str(Address(*server))
        self._running = ExitStack()
        self.address = "127.0.0.1:0"
        self.begin()

    def begin(self) -> None:
        command = ["link", "--listen", self.address, "--to", self._server, "--rtt-ms", RTT_MS]
        host, port = self._running.enter_context(started(command, "starting the link ...")).address
        self.address = str(Address(host, port))

    def cut(self) -> None:
        self._running.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()


if __name__ == "__main__":
    sys.exit(main())
