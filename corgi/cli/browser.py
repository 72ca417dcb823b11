"""A page of HTML as PDF, printed by a browser of the Chromium family."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from corgi.errors import UsageError

BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
"""Programs that can print, in the order in which they are looked for."""


def find_browser() -> str | None:
    """The browser's program; None if there is none on the path."""
    return next((found for name in BROWSERS if (found := shutil.which(name)) is not None), None)


def check_printing() -> None:
    """Refuse to print where it is not possible, before the work is done.

    Raises:
        UsageError: playwright, which drives the browser, is not installed; or there is no browser.
    """
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        raise UsageError(
            "--pdf: playwright, which drives the browser, is not installed",
            hint="Install it: pip install 'corgi[pdf]'. Or print the page of --html from your browser.",
        ) from None
    if find_browser() is None:
        raise UsageError(
            f"--pdf: no browser found; looked for {', '.join(BROWSERS)}",
            hint="Install one, as `apt-get install chromium`. Or print the page of --html from your browser.",
        )


def pdf_of(page: str) -> bytes:
    """A page of HTML, printed on A4.

    Raises:
        UsageError: see `check_printing`; or the browser fails.
    """
    check_printing()
    from playwright.sync_api import Error, sync_playwright

    with TemporaryDirectory() as folder:
        file = Path(folder) / "page.html"
        file.write_text(page, encoding="utf-8")
        try:
            with sync_playwright() as playwright:
                # No sandbox: it cannot be had as root or in most containers, and the page is our own.
                browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
                tab = browser.new_page()
                tab.goto(file.as_uri())
                margin = "12mm"
                printed = tab.pdf(
                    format="A4",
                    print_background=True,
                    margin={"top": margin, "bottom": margin, "left": margin, "right": margin},
                )
                browser.close()
                return printed
        except Error as error:
            reason = error.message.strip().partition("\n")[0]
            raise UsageError(f"--pdf: {find_browser()} cannot print the page: {reason}") from error
