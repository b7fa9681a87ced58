"""The system's own Chromium, driven by playwright. One browser a module; a page with a fresh profile a test.

While playwright drives, an event loop runs in this thread, and `asyncio.run` is refused. So the browser ends with its
module, and a module that uses it must not run loops of its own.

Without Chromium the tests that need it are skipped with a reason; in continuous integration they fail instead.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

#: What comes takes as long as the machine needs: nothing here is about time.
PATIENCE_MILLISECONDS = 30_000
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: A browser that runs as root, draws on no screen, and calls nobody.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
)
PHONE, DESK = (390, 844), (1440, 900)
_AXE = Path(__file__).parents[1] / "screens" / "vendor" / "axe.js"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if path is None:
        reason = "there is no Chromium: install Debian's package chromium, or run scripts/test as root"
        end = pytest.fail if os.environ.get("CI") else pytest.skip
        end(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*_FLAGS])
        yield browser
        browser.close()


expect.set_options(timeout=PATIENCE_MILLISECONDS)

OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """Opens pages, each with a profile of its own. What one says is an error of its script fails the test."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def open_page(
        url: str, *, cookies: dict[str, str] | None = None, size: tuple[int, int] = DESK, dark: bool = False
    ) -> Page:
        context = chromium.new_context(
            base_url=url,
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        contexts.append(context)
        context.add_cookies([{"name": name, "value": value, "url": url} for name, value in (cookies or {}).items()])
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "console",
            lambda told: (
                wrong.append(told.text) if "Content Security Policy" in told.text or "Uncaught" in told.text else None
            ),
        )
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def serious(page: Page) -> list[tuple[str, str]]:
    """Return what axe-core finds serious or critical on a page: the rule, and the element."""
    page.evaluate(_AXE.read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        (each["id"], node["html"][:200])
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def is_wider_than_the_screen(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))
