"""The page that ``trio-ws serve`` shows to browsers: it opens a WebSocket to where it came from."""

from __future__ import annotations

import base64
import hashlib
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING

import trio

from .. import HTTPResponse

if TYPE_CHECKING:
    from .. import HTTPHandler, HTTPRequest


def make_page_handler() -> HTTPHandler:
    """Make the function that answers HTTP requests, whatever their path, with the page."""
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    headers = (("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", _make_policy(page)))
    body = page.encode()

    async def answer(request: HTTPRequest) -> HTTPResponse:
        await trio.lowlevel.checkpoint()
        if request.method not in ("GET", "HEAD"):
            return HTTPResponse(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"})
        return HTTPResponse(HTTPStatus.OK, headers, body)

    return answer


def _make_policy(page: str) -> str:
    """Allow the page's own script and style by their digests, its WebSocket, and nothing else."""
    script, style = (
        base64.b64encode(hashlib.sha256(_content(page, tag).encode()).digest()).decode() for tag in ("script", "style")
    )
    return f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'"


def _content(page: str, tag: str) -> str:
    return page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
