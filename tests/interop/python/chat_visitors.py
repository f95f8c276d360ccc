"""Two people in the chat of the examples, in headless Chromium: ``chat_visitors.py CHROMIUM DRIVER PICTURE URL URL``.

Reads commands as lines of JSON, ``[WHO, METHOD, ...]`` with WHO 0 or 1, and answers each with a line of JSON.
PICTURE is a file to write their two pages to, side by side, as they were when each was told to keep a picture.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-sync", "--ignore-certificate-errors", "--hide-scrollbars", "--force-color-profile=srgb"),
)
TIMEOUT = 30.0  # seconds
SIDE_BY_SIDE = (
    "<!doctype html><style>body{{margin:0;display:flex;gap:16px;padding:16px;background:#c9d3df}}"
    "img{{width:560px;height:auto;align-self:start;border-radius:12px}}</style>"
    '<img src="data:image/png;base64,{}"><img src="data:image/png;base64,{}">'
)


class Visitor:
    """A window of the browser with the page."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self._driver = driver
        driver.switch_to.new_window("window")
        driver.set_window_rect(width=700, height=560)
        driver.get(url)
        self.window = driver.current_window_handle
        self.picture = ""

    def _field(self, name: str) -> str:
        return self._driver.find_element(By.ID, name).text

    def enter(self, name: str) -> None:
        """Fill in the first form."""
        self._driver.find_element(By.ID, "name").send_keys(name)
        self._driver.find_element(By.CSS_SELECTOR, "#enter button").click()

    def say(self, text: str) -> None:
        """Send a message."""
        self._driver.find_element(By.ID, "text").send_keys(text)
        self._driver.find_element(By.CSS_SELECTOR, "#say button").click()

    def wait_for(self, field: str, text: str) -> str:
        """Wait until a part of the page has a text, and return all of that part."""
        WebDriverWait(self._driver, TIMEOUT, 0.05).until(lambda _: text in self._field(field))
        return self._field(field)

    def keep_picture(self) -> None:
        """Keep a picture of the page, in base64."""
        self.picture = self._driver.get_screenshot_as_base64()


def save_side_by_side(driver: webdriver.Chrome, pictures: list[str], path: Path) -> None:
    """Write one picture of two."""
    driver.switch_to.new_window("window")
    driver.set_window_rect(width=1168, height=800)
    driver.get("data:text/html;base64," + base64.b64encode(SIDE_BY_SIDE.format(*pictures).encode()).decode())
    height = driver.execute_script("return document.body.offsetHeight")
    clip = {"x": 0, "y": 0, "width": 1168, "height": height, "scale": 1}
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip})
    path.write_bytes(base64.b64decode(taken["data"]))


def main(chromium: str, driver_path: str, picture: str, urls: list[str]) -> None:
    """Do what the lines say."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        visitors = [Visitor(driver, url) for url in urls]
        for line in sys.stdin:
            who, method, *arguments = json.loads(line)
            driver.switch_to.window(visitors[who].window)
            print(json.dumps(getattr(visitors[who], method)(*arguments)), flush=True)
        save_side_by_side(driver, [visitor.picture for visitor in visitors], Path(picture))
    finally:
        driver.quit()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
