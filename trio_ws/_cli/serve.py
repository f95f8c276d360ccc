"""``trio-ws serve``: an echo server, or one that sends to all."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from .. import SAME_ORIGIN, ConnectionClosed, Group, Limits, serve_websocket
from .._util.nursery import BackgroundNursery
from .arguments import add_command, add_shared_arguments, port_number
from .certificates import make_authority, server_context, throwaway_context, written_to_file
from .page import make_page_handler
from .running import FINE, WRONG_USAGE, Failure
from .terminal import escape

if TYPE_CHECKING:
    import ssl

    from .. import Compression, Handler, WebSocket, WebSocketRequest, WebSocketServer
    from .._options import Origins
    from .arguments import Commands
    from .running import Interrupts

_DESCRIPTION = """\
An echo server: every message comes back as it was sent, or with --broadcast
goes to all who are connected. A browser that opens its address, with http or
https, gets a page to try it. One line is printed for each WebSocket that has
ended. It speaks HTTP/1.1, and HTTP/2 to clients that ask for it in TLS or begin
with it.

Ctrl-C or SIGTERM closes every connection with code 1001 and ends with status 0;
again, it ends at once, with status 130.

examples:
  trio-ws serve --port 0        a port that is free
  trio-ws serve --tls           a throw-away certificate for loopback and --host
  trio-ws serve --host 0.0.0.0 --tls --cert-file a.pem --key-file b.pem
"""

_DEFAULT_HOST = "127.0.0.1"
_DEFAULT_PORT = 8080


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The arguments of ``trio-ws serve``.

    Raises:
        Failure: two of them do not go together.
    """

    host: str | None
    port: int | None
    unix: str | None
    tls: bool
    cert_file: str | None
    key_file: str | None
    origins: list[str]
    any_origin: bool
    broadcast: bool
    hosts: list[str]
    protocols: list[str]
    compression: Compression | None
    max_size: int

    def __post_init__(self) -> None:
        rules = (
            ("--unix goes without --host and --port", self.unix is not None and (self.host, self.port) != (None, None)),
            ("--cert-file needs --tls", self.cert_file is not None and not self.tls),
            ("--key-file needs --cert-file", self.key_file is not None and self.cert_file is None),
            ("--any-origin goes without --origin", self.any_origin and bool(self.origins)),
        )
        for rule, broken in rules:
            if broken:
                raise Failure(rule, WRONG_USAGE)


def add_parser(commands: Commands) -> None:
    """Add the command to the program's."""
    parser = add_command(commands, "serve", run, ServeOptions, summary="an echo server", description=_DESCRIPTION)
    parser.add_argument("--host", metavar="ADDRESS", help=f"listen on this name or address (default {_DEFAULT_HOST})")
    parser.add_argument(
        "--port",
        type=port_number,
        metavar="PORT",
        help=f"listen on this port; 0 lets the system choose (default {_DEFAULT_PORT})",
    )
    parser.add_argument("--unix", metavar="PATH", help="listen on this Unix socket instead")
    parser.add_argument(
        "--tls",
        action="store_true",
        help="speak TLS; without --cert-file by a throw-away certificate, whose authority's file is printed",
    )
    parser.add_argument(
        "--cert-file", "--cert", metavar="PEM", help="the certificate, and those between it and its authority"
    )
    parser.add_argument("--key-file", "--key", metavar="PEM", help="its key, if that is in a file of its own")
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        dest="origins",
        help="take browsers' requests from pages of this origin; may be repeated (default: those of this server)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        dest="hosts",
        help="take requests for this host, and for loopback's names; may be repeated (default: for any host, but on "
        "loopback for none that names the port of this server)",
    )
    parser.add_argument("--any-origin", action="store_true", help="take them from pages of any origin")
    parser.add_argument(
        "--broadcast",
        action="store_true",
        help="send every message to all connections, the sender's too; one that takes too little is closed with 1008",
    )
    add_shared_arguments(parser)


async def run(options: ServeOptions, interrupts: Interrupts) -> int:
    """Run the command and return its exit status."""
    interrupted = trio.Event()
    with ExitStack() as stack:
        context = _make_context(options, stack) if options.tls else None
        async with BackgroundNursery() as nursery:
            stack.enter_context(interrupts.ending_gently(interrupted.set))
            server = await _listen(nursery, options, context)
            for address in _addresses(server, secure=options.tls):
                _say(f"listening on {address}")
            await interrupted.wait()
            _say(f"closing {_count(len(server.connections), 'connection')}")
            await server.aclose()
    return FINE


def _make_context(options: ServeOptions, stack: ExitStack) -> ssl.SSLContext:
    if options.cert_file is not None:
        return server_context(options.cert_file, options.key_file)
    authority = make_authority()
    path = stack.enter_context(written_to_file(authority))
    _say(f"throw-away certificate: connect with --ca-file {path}")
    return throwaway_context(authority, options.host)


async def _listen(nursery: trio.Nursery, options: ServeOptions, context: ssl.SSLContext | None) -> WebSocketServer:
    host: str | Path
    port: int | None
    if options.unix is None:
        host = _DEFAULT_HOST if options.host is None else options.host
        port = _DEFAULT_PORT if options.port is None else options.port
        place = _url_authority(host, port)
    else:
        host, port, place = Path(options.unix), None, options.unix
    serve = partial(
        serve_websocket,
        protocols=options.protocols,
        origins=_origins(options),
        hosts=options.hosts or "auto",
        http_handler=make_page_handler(),
        compression=options.compression,
        limits=Limits(max_message_size=options.max_size),
    )
    handler = _make_broadcaster() if options.broadcast else _echo
    try:
        server: WebSocketServer = await nursery.start(serve, handler, host, port, context)
    except OSError as error:
        raise Failure(f"cannot listen on {place}: {error.strerror}") from None
    except ValueError as error:
        raise Failure(str(error), WRONG_USAGE) from None
    return server


def _origins(options: ServeOptions) -> Origins | tuple[str | None, ...]:
    if options.any_origin:
        return None
    # None: what is no browser sends no Origin, and is welcome.
    return (None, *options.origins) if options.origins else SAME_ORIGIN


def _addresses(server: WebSocketServer, *, secure: bool) -> list[str]:
    names = [listener.socket.getsockname() for listener in server.listeners]
    scheme = "wss" if secure else "ws"
    return [
        f"Unix socket {escape(name)}" if isinstance(name, str) else f"{scheme}://{_url_authority(name[0], name[1])}/"
        for name in names
    ]


async def _echo(request: WebSocketRequest) -> None:
    async with request.accept() as websocket:
        with suppress(ConnectionClosed):
            async for message in websocket:
                await websocket.send(message)
        await _tell_end(request, websocket)


def _make_broadcaster() -> Handler:
    """Make a handler that sends every message to all connections, the one that it came from among them."""
    group = Group(slow="close")

    async def handle(request: WebSocketRequest) -> None:
        async with request.accept() as websocket:
            async with group.join(websocket):
                with suppress(ConnectionClosed):
                    async for message in websocket:
                        group.broadcast(message)
            await _tell_end(request, websocket)

    return handle


async def _tell_end(request: WebSocketRequest, websocket: WebSocket) -> None:
    info = await websocket.wait_closed()
    count = _count(websocket.statistics().messages_received, "message")
    peer, target = _describe_peer(request.remote_address), escape(request.target)
    with suppress(OSError):  # nobody reads it any more
        _say(f"{peer} {target} {info}, {count}")


def _describe_peer(address: object) -> str:
    if isinstance(address, tuple):
        return _url_authority(address[0], address[1])
    return "over the Unix socket"


def _url_authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _say(line: str) -> None:
    print(line, flush=True)
