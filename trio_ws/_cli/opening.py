"""What the commands that are clients share: the arguments that say how to connect, and what is said when that fails."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from .. import Agent, EnvHttpProxyAgent, HandshakeError, HandshakeRejected, Limits, ProxyAgent
from .._wire.hiding import hide_secrets_of_url
from .._wire.url import parse_url
from .arguments import add_shared_arguments, header, seconds
from .certificates import client_context, explain
from .running import WRONG_USAGE, Failure
from .terminal import Screen, Style

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from .. import Compression, Dispatcher, WebSocket
    from .._client.connect import ClientKeywords

_SHOWN_BODY = 200
_INSECURE = "--insecure: the server may be anybody, who can read and change all that is sent, passwords among it"
# OpenSSL's X509_V_ERR_…: what is amiss is who issued the certificate, not for what host or when it was.
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21, 27})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """The arguments that say what to connect to, and how.

    Raises:
        Failure: two of them do not go together.
    """

    url: str
    headers: list[tuple[str, str]]
    protocols: list[str]
    origin: str | None
    ca_file: str | None
    insecure: bool
    cert: str | None
    key: str | None
    unix: str | None
    proxy: str | None
    http2: bool
    compression: Compression | None
    connect_timeout: float
    max_size: int

    def __post_init__(self) -> None:
        if self.key is not None and self.cert is None:
            raise Failure("--key needs --cert", WRONG_USAGE)


def add_client_arguments(parser: argparse.ArgumentParser) -> None:
    """Add these arguments to a command's parser."""
    parser.add_argument("url", metavar="URL", help="ws://, wss://, http:// or https://")
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        type=header,
        metavar="'NAME: VALUE'",
        dest="headers",
        help="add a header to the request; may be repeated",
    )
    add_shared_arguments(parser)
    parser.add_argument("--origin", help="send this Origin, as a browser would")
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument("--ca-file", metavar="PEM", help="trust the authorities in this file, and no others")
    trust.add_argument(
        "--insecure", action="store_true", help="take any certificate of the server's, and so any server that has one"
    )
    parser.add_argument(
        "--cert", metavar="PEM", help="show this certificate, and those between it and its authority, to the server"
    )
    parser.add_argument("--key", metavar="PEM", help="its key, if that is in a file of its own")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--unix", metavar="PATH", help="connect to this Unix socket, whatever host the URL names")
    way.add_argument(
        "--proxy",
        metavar="URL",
        help="go through this proxy, http://, https:// or socks5:// with USER:PASSWORD@ if it wants that; "
        "env: the one that http_proxy, https_proxy, all_proxy and no_proxy tell",
    )
    parser.add_argument(
        "--http2",
        action="store_true",
        help="speak HTTP/2, which wss:// agrees on in TLS and ws:// begins with; fail if the server does not",
    )
    parser.add_argument(
        "--connect-timeout",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="for DNS, TCP, TLS and the handshake together (default 10)",
    )


def make_agent(options: ClientOptions) -> Agent | EnvHttpProxyAgent:
    """Make the agent that connects; it is to be entered, so that WebSockets over HTTP/2 share a connection.

    Raises:
        Failure: --proxy is no proxy, or needs an extra that is not installed, or --unix needs another system.
    """
    http2 = options.http2
    if options.proxy is None:
        try:
            return Agent(allow_h2=http2, h2_prior_knowledge=http2, socket_path=options.unix)
        except ValueError as error:
            raise Failure(f"--unix: {error}", WRONG_USAGE) from None
    # What says how to meet the server says nothing of the proxy, but for the authorities.
    context = None if options.ca_file is None else client_context(options.ca_file)
    try:
        if options.proxy == "env":
            return EnvHttpProxyAgent(allow_h2=http2, h2_prior_knowledge=http2, proxy_ssl_context=context)
        return ProxyAgent(options.proxy, allow_h2=http2, h2_prior_knowledge=http2, proxy_ssl_context=context)
    except (ValueError, ImportError) as error:
        raise Failure(f"--proxy: {error}", WRONG_USAGE) from None


def client_keywords(options: ClientOptions, agent: Dispatcher) -> ClientKeywords:
    """Make the keyword arguments of what opens a WebSocket; in :func:`explained`, as this may fail too."""
    return {
        "dispatcher": agent,
        "headers": options.headers,
        "origin": options.origin,
        "ssl_context": _make_context(options),
        "compression": options.compression,
        "limits": Limits(max_message_size=options.max_size),
        "connect_timeout": options.connect_timeout,
    }


def _make_context(options: ClientOptions) -> ssl.SSLContext | None:
    if options.ca_file is None and options.cert is None and not options.insecure:
        return None
    return client_context(options.ca_file, options.cert, options.key, verifies=not options.insecure)


def warn_of_insecurity(options: ClientOptions) -> None:
    """Say, in red, what --insecure means."""
    if options.insecure:
        screen = Screen(sys.stderr)
        screen.line(screen.paint(_INSECURE, Style.WARNING))


def check_version(options: ClientOptions, websocket: WebSocket) -> None:
    """Check that HTTP/2 is spoken, if it was asked for: an agent makes do with HTTP/1.1.

    Raises:
        Failure: it is not.
    """
    if options.http2 and websocket.http_version != "2":
        raise Failure(f"the server of {websocket.url} speaks no WebSocket over HTTP/2: it chose HTTP/1.1")


@contextmanager
def explained(options: ClientOptions) -> Iterator[None]:
    """Put what fails while a WebSocket is opened into one line.

    Raises:
        Failure: in place of the error, which is its cause unless an argument was wrong.
    """
    try:
        yield
    except (OSError, HandshakeError) as error:
        # The notes of the others are about redirects, which are not followed here.
        notes = getattr(error, "__notes__", []) if isinstance(error, OSError) else []
        reasons = ", ".join([_explain(error), *notes])
        raise Failure(f"cannot connect to {parse_url(options.url)}: {reasons}") from error
    except (ValueError, ImportError) as error:  # an argument or a variable breaks a rule, or SOCKS is not installed
        raise Failure(str(error), WRONG_USAGE) from None


def describe(websocket: WebSocket) -> str:
    """Say what was opened, without the secrets of its URL."""
    details = [f"HTTP/{websocket.http_version}"]
    if websocket.protocol is not None:
        details.append(f"subprotocol {websocket.protocol}")
    details.append(websocket.extensions or "no extension")
    return f"{hide_secrets_of_url(websocket.url)} ({', '.join(details)})"


def _explain(error: OSError | HandshakeError) -> str:
    match error:
        case HandshakeRejected():
            return _explain_rejection(error)
        case ssl.SSLCertVerificationError():
            advice = " (see --ca-file and --insecure)" if error.verify_code in _UNKNOWN_AUTHORITY else ""
            message = error.verify_message.rstrip(".")
            return f"the server's certificate cannot be verified: {message}{advice}"
        case ssl.SSLError():
            return f"TLS failed: {explain(error)}"
        case socket.gaierror():
            return f"the host cannot be found: {error.strerror}"
        case OSError():
            return _explain_os_error(error)
    return str(error)


def _explain_rejection(error: HandshakeRejected) -> str:
    try:
        phrase = f" {HTTPStatus(error.status).phrase}"
    except ValueError:
        phrase = ""
    parts = [f"the server answered with HTTP status {error.status}{phrase}"]
    if "Location" in error.headers:
        parts.append(f"Location {error.headers['Location']}")
    body = error.body.decode(errors="replace").strip()
    if body and len(body) <= _SHOWN_BODY:  # a page of HTML says nothing here
        parts.append(body)
    return ": ".join(parts)


def _explain_os_error(error: OSError) -> str:
    """Say what the system said, of each address that was tried."""
    causes = error.__cause__.exceptions if isinstance(error.__cause__, ExceptionGroup) else [error]
    reasons = [
        os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else str(cause) for cause in causes
    ]
    return ", ".join(dict.fromkeys(reasons))
