"""Drive headless Chromium with selenium's CDP code, unchanged: ``selenium_cdp.py CLIENT CHROMIUM DRIVER URL``.

CLIENT is "trio_ws" or "trio_websocket", whose WebSocket client selenium gets. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys

import trio

if sys.argv[1] == "trio_ws":
    from trio_ws.compat import trio_websocket

    trio_websocket.install()

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.bidi import cdp

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server", "--disable-sync")


def open_browser(chromium: str, driver: str) -> webdriver.Chrome:
    """Start Chromium with a driver that is given, so that selenium looks for none."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(driver))


async def watch(driver: webdriver.Chrome, url: str) -> dict[str, object]:
    """Evaluate, listen for what a page logs, and use the connection once more when it is closed."""
    async with driver.bidi_connection() as connection:
        session, devtools = connection.session, connection.devtools
        await session.execute(devtools.page.enable())
        await session.execute(devtools.runtime.enable())
        version = await session.execute(devtools.browser.get_version())
        logged = session.listen(devtools.runtime.ConsoleAPICalled)
        await session.execute(devtools.page.navigate(url=url))
        messages = [(await logged.receive()).args[0].value for _ in range(3)]
        big, _ = await session.execute(devtools.runtime.evaluate("'x'.repeat(3_000_000)", return_by_value=True))
        websocket = session.ws
        found = {
            "product": version[1],
            "messages": messages,
            "big": len(big.value),
            "client": type(websocket).__module__,
        }
    try:
        await session.execute(devtools.page.enable())
    except cdp.CdpConnectionClosed as error:
        found["closed"] = error.reason and [error.reason.code, error.reason.name]
    return found


def main(chromium: str, driver_path: str, url: str) -> None:
    """Run it once."""
    driver = open_browser(chromium, driver_path)
    try:
        print(json.dumps(trio.run(watch, driver, url)))
    finally:
        driver.quit()


if __name__ == "__main__":
    main(*sys.argv[2:])
