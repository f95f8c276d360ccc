"""Any header of a handshake is read or refused; what a server agrees to its client accepts, and messages pass then."""

from __future__ import annotations

from trio_ws import Compression, InvalidHandshake
from trio_ws._wire.deflate import DeflateParameters, PerMessageDeflate, accept_offer, check_answer, offer
from trio_ws._wire.handshake import ClientHandshake, Refusal, accept_value, http1_answer, read_http1_request
from trio_ws._wire.headers import Headers, parse_extensions, parse_list
from trio_ws._wire.url import parse_url

from .choices import Choices, seed

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MOST = Compression(server_max_window_bits=15, client_max_window_bits=15)

_OFFERS = [
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9, permessage-deflate",
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    'permessage-deflate; client_max_window_bits="12"',
    "permessage-deflate; server_max_window_bits=8",
    'x-webkit-deflate-frame, foo; a; b=c; d="e\\"f"',
    "permessage-deflate; server_max_window_bits=010",
    ", ,",
]
SEEDS = [seed(which, windows, text.encode()) for text in _OFFERS for which in (0, 1) for windows in (0, 0x25)]
SEEDS += [seed(2, 0, b"chat, superchat"), seed(2, 0, b"a," * 40), seed(3, 0, b"v1.chat")]


def TestOneInput(data: bytes) -> None:
    """Read data: a byte that chooses the header, one that chooses our terms, and the header."""
    choices = Choices(data)
    which, terms = choices.byte() % 4, make_compression(choices.byte())
    value = choices.rest().decode("latin-1")
    match which:
        case 0:
            offered_to_a_server(value, terms)
        case 1:
            answered_to_a_client(value, terms)
        case 2:
            assert all(parse_list(value)), "no element is empty"
            request_with("Sec-WebSocket-Protocol", value)
        case _:
            answer_with("Sec-WebSocket-Protocol", value, terms)


def make_compression(byte: int) -> Compression:
    """Make terms out of a byte."""
    return Compression(
        threshold=0,
        server_max_window_bits=15 - byte % 8 % 7,
        client_max_window_bits=15 - byte // 8 % 8 % 7,
        server_no_context_takeover=bool(byte & 0x40),
        client_no_context_takeover=bool(byte & 0x80),
    )


def offered_to_a_server(value: str, terms: Compression) -> None:
    """Let a client offer any extensions."""
    fields, deflate = request_with("Sec-WebSocket-Extensions", value, terms)
    if deflate is not None:
        if deflate.client_max_window_bits > 8:  # else a client asked for it that is none of ours
            answer = Headers(fields)["Sec-WebSocket-Extensions"]
            assert check_answer(parse_extensions(answer), MOST) == deflate
        check_messages(deflate, terms)
    # A client of ours with any terms gets what it can take.
    agreed = accept_offer(parse_extensions(offer(terms)), terms)
    assert agreed is not None
    assert check_answer(parse_extensions(agreed[1]), terms) == agreed[0]


def answered_to_a_client(value: str, terms: Compression) -> None:
    """Let a server answer any extensions."""
    deflate = answer_with("Sec-WebSocket-Extensions", value, terms)
    if deflate is not None:
        assert 9 <= deflate.client_max_window_bits <= terms.client_max_window_bits
        check_messages(deflate, terms)


def request_with(
    name: str, value: str, terms: Compression | None = None
) -> tuple[list[tuple[str, str]], DeflateParameters | None]:
    """Ask a server for a WebSocket; give what it answers, nothing if it refuses."""
    fields = [
        ("Host", "example.com"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
        (name, value),
    ]
    try:
        request = read_http1_request("GET", "1.1", "/", Headers(fields), secure=False)
    except Refusal as refusal:
        assert refusal.status == 400
        return [], None
    protocol = request.protocols[-1] if request.protocols else None
    answer, agreement = http1_answer(request, protocol=protocol, compression=terms, headers=())
    assert agreement.protocol == protocol
    for line in (f"{key}: {text}" for key, text in answer):
        assert not frozenset("\r\n\0") & frozenset(line)
    return answer, agreement.deflate


def answer_with(name: str, value: str, terms: Compression) -> DeflateParameters | None:
    """Answer a client's request; give what it takes for agreed."""
    handshake = ClientHandshake(
        parse_url("ws://example.com/"), ("v1.chat", "v2.chat"), headers=(), origin=None, compression=terms
    )
    _, _, asked = handshake.http1_request()
    key = dict(asked)["Sec-WebSocket-Key"]
    fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept_value(key))]
    if name != "Sec-WebSocket-Protocol":
        fields.append(("Sec-WebSocket-Protocol", "v2.chat"))
    try:
        agreement = handshake.check_http1_answer(Headers([*fields, (name, value)]))
    except InvalidHandshake:
        return None
    assert agreement.protocol in ("v1.chat", "v2.chat")
    return agreement.deflate


def check_messages(agreed: DeflateParameters, terms: Compression) -> None:
    """Check that both sides can compress on these terms, and read each other."""
    client = PerMessageDeflate(agreed, terms, is_client=True)
    server = PerMessageDeflate(agreed, terms, is_client=False)
    for sender, receiver in ((client, server), (server, client)):
        if not sender.can_compress:  # zlib reads windows of 2**8 bytes, and cannot write them
            continue
        for message in (b"hello" * 20, b"", b"hello" * 20):
            packed = sender.deflater.compress(message)
            assert receiver.inflater.inflate(packed, final=True, max_size=200) == message
