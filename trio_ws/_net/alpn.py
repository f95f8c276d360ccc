"""ALPN (RFC 7301) on an ``ssl.SSLContext`` that belongs to the application, which is left as it was.

Python's ssl keeps the protocols in the context, and has no way to ask for them. OpenSSL reads them

* on a client when the TLS object is made, which is a copy from then on;
* on a server when the ClientHello has come, within ``do_handshake()``.

So ours are set for that moment, and then those that were there. A lock for each context keeps the threads of this
process apart. What was there, OpenSSL tells:

* for a client by the ClientHello that it would send. That is exact, and costs about 60 µs.
* for a server by what it selects from all protocols that are registered. That costs as much as the beginning of a
  handshake, so it is done when a server begins, and not for each connection.
"""

from __future__ import annotations

import ssl
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# IANA, "TLS Application-Layer Protocol Negotiation (ALPN) Protocol IDs".
REGISTERED = (
    *("http/0.9", "http/1.0", "http/1.1", "spdy/1", "spdy/2", "spdy/3", "h2", "h2c", "h3"),
    *("stun.turn", "stun.nat-discovery", "webrtc", "c-webrtc", "ftp", "imap", "pop3", "managesieve", "coap", "co"),
    *("xmpp-client", "xmpp-server", "acme-tls/1", "mqtt", "dot", "doq", "ntske/1", "sunrpc", "smb", "irc"),
    *("nntp", "nnsp", "sip/2", "tds/8.0", "dicom", "postgresql", "radius/1.0", "radius/1.1"),
)

_EXTENSION = 16  # application_layer_protocol_negotiation
_TWO_NUMBERS = struct.Struct(">HH")


class _Shared:
    """What the threads of this process share about a context.

    Attributes:
        lock: held while its protocols are ours. Reentrant: an ``sni_callback`` of the application's may run meanwhile.
        is_ours: whether nobody else has it, so that it has no protocols of its own.
        selected: the protocols that the application has given it, if it is a server's; None: not asked yet.
    """

    __slots__ = ("is_ours", "lock", "selected")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_ours = False
        self.selected: list[str] | None = None


_all: WeakKeyDictionary[ssl.SSLContext, _Shared] = WeakKeyDictionary()
_lock = threading.Lock()  # of the dictionary


def _shared(context: ssl.SSLContext) -> _Shared:
    with _lock:
        return _all.setdefault(context, _Shared())


@contextmanager
def offered(context: ssl.SSLContext, protocols: Sequence[str], server_hostname: str | None) -> Iterator[None]:
    """Have a client's context offer these protocols, the preferred first, for a block that makes a TLS object."""
    shared = _shared(context)
    with shared.lock:
        before = [] if shared.is_ours else _read_offered(context, server_hostname)
        with _given(context, protocols, before):
            yield


@contextmanager
def selected(context: ssl.SSLContext, protocols: Sequence[str]) -> Iterator[None]:
    """Have a server's context select from these protocols, the preferred first, for a step of a handshake."""
    shared = _shared(context)
    with shared.lock:
        if shared.selected is None:
            shared.selected = _find_selected(context)
        with _given(context, protocols, shared.selected):
            yield


def note_ours(context: ssl.SSLContext) -> None:
    """Note that a context is this library's own, and has no protocols."""
    _shared(context).is_ours = True


def note_selected(context: ssl.SSLContext) -> None:
    """Find out what a server's context selects by itself, for :func:`selected` to put back from now on."""
    shared = _shared(context)
    with shared.lock:
        shared.selected = _find_selected(context)


@contextmanager
def _given(context: ssl.SSLContext, protocols: Sequence[str], before: list[str]) -> Iterator[None]:
    if list(protocols) == before:
        yield
        return
    context.set_alpn_protocols(protocols)
    try:
        yield
    finally:
        try:
            context.set_alpn_protocols(before)
        except MemoryError:
            if before:  # OpenSSL 1.1.1 takes an empty list, and calls that a failure
                raise


def _read_offered(context: ssl.SSLContext, server_hostname: str | None) -> list[str]:
    """Read what a client's context offers, from a ClientHello that is not sent (RFC 8446 §4.1.2)."""
    hello = _client_hello(context, server_hostname)
    position = 43  # after the heads of the record and the message, the version, and the random bytes
    for size in (1, 2, 1):  # session, cipher suites, compression methods: each has its length before it
        position += size + int.from_bytes(hello[position : position + size])
    position += 2  # the length of all extensions
    while position < len(hello):
        kind, size = _TWO_NUMBERS.unpack_from(hello, position)
        position += _TWO_NUMBERS.size
        if kind == _EXTENSION:
            return _split(hello[position + 2 : position + size])
        position += size
    return []


def _split(names: bytes) -> list[str]:
    """Split a list of names that have their lengths before them (RFC 7301 §3.1)."""
    found = []
    while names:
        end = 1 + names[0]
        found.append(names[1:end].decode("ascii"))
        names = names[end:]
    return found


def _client_hello(context: ssl.SSLContext, server_hostname: str | None) -> bytes:
    """Give the first record of a client; nothing if it cannot even begin, as the handshake will tell."""
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_hostname)
    with suppress(ssl.SSLError):  # it wants to read
        tls.do_handshake()
    return outgoing.read()


def _find_selected(context: ssl.SSLContext) -> list[str]:
    """Find out which of the registered protocols a server's context selects, in its order."""
    # The callback could put another context in this one's place, whose protocols would be told.
    sni_callback, context.sni_callback = context.sni_callback, None
    try:
        left, found = list(REGISTERED), []
        while (name := _select(context, left)) is not None:
            left.remove(name)
            found.append(name)
        return found
    finally:
        context.sni_callback = sni_callback


def _select(context: ssl.SSLContext, names: list[str]) -> str | None:
    """Have a server's context select from these names, of a client that says no more than a ClientHello."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.set_alpn_protocols(names)
    incoming = ssl.MemoryBIO()
    incoming.write(_client_hello(client, None))
    tls = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    with suppress(ssl.SSLError):  # it wants to read; or has no certificate, say
        tls.do_handshake()
    return tls.selected_alpn_protocol()
