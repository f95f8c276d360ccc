"""Use the page of ``trio-ws serve`` in headless Chromium: ``serve_page.py CHROMIUM DRIVER URL``; prints JSON."""

from __future__ import annotations

import json
import sys

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server", "--disable-sync")
PATIENCE = 30.0  # seconds


def use_page(driver: webdriver.Chrome, url: str) -> dict[str, object]:
    """Send a message, close, open again; give what the page tells of it, the newest first, and the browser's log."""
    driver.get(url)
    log, send = driver.find_element(By.ID, "log"), driver.find_element(By.ID, "send")
    wait = WebDriverWait(driver, PATIENCE)
    wait.until(lambda _: send.is_enabled())
    driver.find_element(By.ID, "text").send_keys("hello <b>\n")
    wait.until(lambda _: "< hello" in log.text)
    driver.find_element(By.ID, "toggle").click()
    wait.until(lambda _: "closed:" in log.text)
    driver.find_element(By.ID, "toggle").click()
    wait.until(lambda _: send.is_enabled())
    return {"lines": log.text.splitlines(), "log": driver.get_log("browser")}  # type: ignore[no-untyped-call]


def main(chromium: str, driver_path: str, url: str) -> None:
    """Run it once."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        print(json.dumps(use_page(driver, url)))
    finally:
        driver.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])
