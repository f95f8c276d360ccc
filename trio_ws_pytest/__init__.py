"""The pytest plugin of trio_ws: WebSockets as fixtures, and the frames of both sides where a test that had them fails.

pytest loads this in every run where trio_ws is installed, so it imports nothing of trio_ws before a fixture is used:
that is why it is a package of its own. Fixtures that are coroutines need pytest-trio, and a test that is trio's.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from contextlib import AbstractAsyncContextManager

    from trio_ws import WebSocket
    from trio_ws.testing import LocalServer

MAX_LINES: Final = 500  # that are kept of a test, the last ones

_LOGGER = "trio_ws.frames"
_OURS = logging.DEBUG - 1  # the level that says that nobody but this plugin asked for the lines


class _Recorder:
    """Keeps the last lines of the log of frames.

    It is a filter and no handler: lines that only this plugin asked for must reach none, caplog's least of all.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self.lines: deque[str] = deque(maxlen=MAX_LINES)
        self._logger = logger

    def filter(self, record: logging.LogRecord) -> bool:
        self.lines.append(record.getMessage())
        return self._logger.level != _OURS


_RECORDER: Final = pytest.StashKey[_Recorder]()


@contextmanager
def _recording(item: pytest.Item) -> Generator[None, None, None]:
    """Record the frames, beside what the test has set for that logger."""
    logger = logging.getLogger(_LOGGER)
    recorder = item.stash[_RECORDER] = _Recorder(logger)
    level = logger.level
    if not logger.isEnabledFor(logging.DEBUG):
        logger.setLevel(_OURS)
    logger.addFilter(recorder)
    try:
        yield
    finally:
        logger.removeFilter(recorder)
        logger.setLevel(level)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the frames to the report of a test that failed."""
    report = yield
    recorder = item.stash.get(_RECORDER, None)
    if recorder is not None and recorder.lines and report.failed:
        report.sections.append(("WebSocket frames", "\n".join(recorder.lines)))
    return report


@pytest.fixture
def websocket_frames(request: pytest.FixtureRequest) -> Generator[None, None, None]:
    """Show the frames of the WebSockets that the test opens, by whatever means, if it fails."""
    with _recording(request.node):
        yield


@pytest.fixture
def websocket_server(websocket_frames: None) -> Callable[..., AbstractAsyncContextManager[LocalServer]]:
    """Give ``trio_ws.testing.open_test_server``: ``async with websocket_server(handler) as server:``."""
    from trio_ws.testing import open_test_server

    return open_test_server


@pytest.fixture(params=["1.1", "2"], ids=["http/1.1", "http/2"])
async def websocket_pair(
    request: pytest.FixtureRequest, websocket_frames: None
) -> AsyncGenerator[tuple[WebSocket, WebSocket], None]:
    """Give ``(client, server)``, a WebSocket's ends in memory, over HTTP/1.1 and then over HTTP/2."""
    from trio_ws.testing import memory_websocket_pair

    async with memory_websocket_pair(http_version=request.param) as pair:
        yield pair
