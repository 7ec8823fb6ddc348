"""Debian's Chromium, without a window, as a user's browser."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By

from tests.lab.machine import wait_for

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which Chromium refuses root; it sees nothing but the lab
    "--no-proxy-server",
    "--disable-background-networking",
    "--window-size=1600,1200",
)


class Browser:
    """A browser with a profile of its own."""

    def __init__(self, driver: Chrome) -> None:
        self._driver = driver

    def open(self, url: str) -> None:
        self._driver.get(url)

    def reload(self) -> None:
        self._driver.refresh()

    def text(self, selector: str = "body") -> str | None:
        """Return what can be read in the first element that a CSS selector finds, None without one."""
        try:
            return self._driver.find_element(By.CSS_SELECTOR, selector).text
        except (NoSuchElementException, StaleElementReferenceException):  # the page draws itself anew
            return None

    def await_text(self, text: str, selector: str = "body", *, timeout: float = 30) -> None:
        """Wait until something can be read."""
        wait_for(lambda: text in (self.text(selector) or ""), f"{text!r} on the page", timeout=timeout)

    def paste(self, text: str, selector: str) -> None:
        """Paste into a field in place of what it holds."""
        field = self._driver.find_element(By.CSS_SELECTOR, selector)
        field.click()
        field.send_keys(Keys.CONTROL, "a")
        # As one piece, as a paste is, and not key by key.
        self._driver.execute_cdp_cmd("Input.insertText", {"text": text})

    def press(self, label: str) -> None:
        """Press the button with these words on it."""
        self._driver.find_element(By.XPATH, f"//button[normalize-space()='{label}']").click()


@contextlib.contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Run a browser for the length of a `with` block."""
    options = ChromeOptions()
    # Both named: Selenium would look for other ones on the network.
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(60)
        yield Browser(driver)
    finally:
        driver.quit()
