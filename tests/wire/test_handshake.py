"""The client's half of the opening handshake, and both halves together."""

from __future__ import annotations

import pytest

from trio_ws._exceptions import InvalidHandshake
from trio_ws._options import Compression
from trio_ws._wire import handshake as module
from trio_ws._wire.deflate import DeflateParameters, offer
from trio_ws._wire.handshake import (
    Agreement,
    ClientHandshake,
    accept_value,
    choose_protocol,
    http1_answer,
    http2_answer,
    read_http1_request,
    read_http2_request,
)
from trio_ws._wire.headers import Headers, HeadersLike
from trio_ws._wire.negotiation import is_key
from trio_ws._wire.url import parse_url

NOTHING = Agreement(protocol=None, deflate=None, extensions="")


def handshake(
    url: str = "ws://example.com/chat",
    protocols: tuple[str, ...] = (),
    *,
    headers: HeadersLike = (),
    origin: str | None = None,
    compression: Compression | None = None,
) -> ClientHandshake:
    return ClientHandshake(parse_url(url), protocols, headers=headers, origin=origin, compression=compression)


def test_the_module_has_every_name_of_the_handshake() -> None:
    assert all(hasattr(module, name) for name in module.__all__)
    assert {"new_key", "accept_value", "Agreement", "check_protocols", "ClientHandshake", "Refusal"} < set(
        module.__all__
    )
    assert {"OpeningRequest", "wants_websocket", "check_origin", "check_origins"} < set(module.__all__)


def test_the_plainest_http1_request() -> None:
    client = handshake()
    assert client.request_headers == Headers()
    method, target, fields = client.http1_request()
    key = dict(fields)["Sec-WebSocket-Key"]
    assert (method, target) == ("GET", "/chat")
    assert fields == [
        ("Host", "example.com"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    assert client.request_headers.raw == tuple(fields)


def test_each_http1_request_has_a_key_of_its_own_and_only_the_last_counts() -> None:
    client = handshake()
    first, second = (dict(client.http1_request()[2])["Sec-WebSocket-Key"] for _ in range(2))
    assert first != second
    assert client.request_headers["sec-websocket-key"] == second
    answer = {"Upgrade": "websocket", "Connection": "Upgrade"}
    assert client.check_http1_answer(Headers({**answer, "Sec-WebSocket-Accept": accept_value(second)})) == NOTHING
    with pytest.raises(InvalidHandshake):
        client.check_http1_answer(Headers({**answer, "Sec-WebSocket-Accept": accept_value(first)}))


def full_handshake() -> ClientHandshake:
    return handshake(
        "wss://user:pass@example.com:8443/chat?a=b",
        ("chat", "superchat"),
        headers=[("X-A", "1"), ("x-a", "2"), ("Cookie", "c=d")],
        origin="https://example.com",
        compression=Compression(),
    )


def test_the_fullest_http1_request() -> None:
    _, target, fields = full_handshake().http1_request()
    assert target == "/chat?a=b"
    assert fields[0] == ("Host", "example.com:8443")
    assert fields[4:] == [
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Protocol", "chat, superchat"),
        ("Sec-WebSocket-Extensions", offer(Compression())),
        ("Origin", "https://example.com"),
        ("Authorization", "Basic dXNlcjpwYXNz"),
        ("X-A", "1"),
        ("x-a", "2"),
        ("Cookie", "c=d"),
    ]


def test_the_fullest_http2_request() -> None:
    client = full_handshake()
    fields = client.http2_request()
    key = dict(fields)["sec-websocket-key"]
    assert is_key(key)
    assert fields == [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "example.com:8443"),
        (":path", "/chat?a=b"),
        ("sec-websocket-key", key),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat, superchat"),
        ("sec-websocket-extensions", offer(Compression())),
        ("origin", "https://example.com"),
        ("authorization", "Basic dXNlcjpwYXNz"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("cookie", "c=d"),
    ]
    assert client.request_headers.raw == (("host", "example.com:8443"), *fields[5:])


def test_the_plainest_http2_request() -> None:
    client = handshake()
    fields, again = client.http2_request(), client.http2_request()
    assert fields == [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "example.com"),
        (":path", "/chat"),
        ("sec-websocket-key", dict(fields)["sec-websocket-key"]),
        ("sec-websocket-version", "13"),
    ]
    assert dict(fields)["sec-websocket-key"] != dict(again)["sec-websocket-key"]


def test_the_callers_host_and_authorization_win() -> None:
    client = handshake("ws://user:pass@10.0.0.1/", headers={"HOST": "Example.com:81", "authorization": "Bearer t"})
    headers = Headers(client.http1_request()[2])
    assert headers.get_all("Host") == ["Example.com:81"]
    assert headers.get_all("Authorization") == ["Bearer t"]
    fields = client.http2_request()
    assert (":authority", "Example.com:81") in fields
    assert "host" not in dict(fields)


@pytest.mark.parametrize(
    ("headers", "user_agent", "sent"),
    [
        ({}, "ours/1", ["ours/1"]),
        ({}, None, []),
        ({"user-agent": "mine/2"}, "ours/1", ["mine/2"]),
        ({"User-Agent": "mine/2"}, None, ["mine/2"]),
    ],
)
def test_the_callers_user_agent_wins_and_none_sends_none(
    headers: HeadersLike, user_agent: str | None, sent: list[str]
) -> None:
    client = ClientHandshake(
        parse_url("ws://example.com"), (), headers=headers, origin=None, compression=None, user_agent=user_agent
    )
    assert client.user_agent == user_agent
    _, _, fields = client.http1_request()
    assert [value for name, value in fields if name.lower() == "user-agent"] == sent
    assert [value for name, value in client.http2_request() if name == "user-agent"] == sent


def test_a_refusal_is_kept_with_its_status_and_headers() -> None:
    client = handshake()
    assert client.rejection is None
    rejected = client.reject(403, Headers({"X-Why": "no"}))
    assert client.rejection is rejected
    assert (rejected.status, rejected.headers, rejected.body) == (403, {"X-Why": "no"}, b"")


def test_the_callers_origin_header_is_as_good_as_the_argument() -> None:
    assert handshake(headers={"Origin": "null"}).http2_request()[-1] == ("origin", "null")


@pytest.mark.parametrize(
    ("headers", "origin", "message"),
    [
        ({"Sec-WebSocket-Key": "a"}, None, "headers must not have 'Sec-WebSocket-Key': the handshake sets it"),
        ({"proxy-authorization": "a"}, None, "headers must not have 'proxy-authorization': the handshake sets it"),
        ({":path": "/"}, None, "the header name ':path' is not a token"),
        ({"X": "a\r\nb: c"}, None, "the value of header 'X' must not contain '\\r'"),
        ({"X": "a\x85b"}, None, "the value of header 'X' must not contain '\\x85'"),
        ([("Host", "a"), ("HOST", "a")], None, "headers must not have 'Host' twice"),
        ({"Host": "a b"}, None, "the value of header 'Host' is wrong: 'a b' is not host or host:port"),
        ({"Host": ""}, None, "the value of header 'Host' is wrong: '' is not host or host:port"),
        (
            [("Origin", "a"), ("Origin", "a")],
            None,
            "headers must not have 'Origin' twice, nor at all if origin is passed",
        ),
        ({"Origin": "a"}, "b", "headers must not have 'Origin' twice, nor at all if origin is passed"),
        ((), "a\nb", "the value of header 'Origin' must not contain '\\n'"),
        ((), " a", "the value of header 'Origin' must not begin or end with white space"),
    ],
)
def test_a_header_that_breaks_a_rule_is_refused_by_name(headers: HeadersLike, origin: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        handshake(headers=headers, origin=origin)
    assert str(caught.value).startswith(message)


def test_arguments_of_the_wrong_type_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^origin must be a str or None, not bytes$"):
        handshake(origin=b"a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^headers must be a mapping or an iterable of pairs, not str$"):
        handshake(headers="X: 1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^protocols: 1 must be a str, not int$"):
        handshake(protocols=(1,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^protocols: 'a b' is not a token"):
        handshake(protocols=("a b",))


Changes = list[tuple[str, str]]
PARAMETERS = DeflateParameters(
    server_no_context_takeover=True,
    client_no_context_takeover=False,
    server_max_window_bits=10,
    client_max_window_bits=11,
)
ANSWER = "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; client_max_window_bits=11"


def answer_http1(client: ClientHandshake, changes: Changes) -> Agreement:
    """Let a good 101 for the client, with some headers replaced ("" takes one away), be checked."""
    key = dict(client.http1_request()[2])["Sec-WebSocket-Key"]
    good = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept_value(key))]
    changes = [(name, value.replace("RIGHT", accept_value(key))) for name, value in changes]
    names = {name for name, _ in changes}
    return client.check_http1_answer(
        Headers([field for field in good if field[0] not in names] + [field for field in changes if field[1]])
    )


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [("Upgrade", "WebSocket")],
        [("Connection", "keep-alive, Upgrade")],
        [("Connection", "keep-alive"), ("Connection", "UPGRADE")],
        [("Server", "x"), ("Sec-WebSocket-Version", "13"), ("Content-Length", "0")],
        [("Sec-WebSocket-Extensions", ",")],
    ],
)
def test_a_good_101_is_taken(changes: Changes) -> None:
    agreement = answer_http1(handshake(), changes)
    assert (agreement.protocol, agreement.deflate) == (None, None)


UPGRADE = "the server's 101 must have the header Upgrade: websocket"
CONNECTION = "the server's 101 must have the header Connection: Upgrade"
ACCEPT = "the server's 101 must have the Sec-WebSocket-Accept that answers the key, once"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("Upgrade", "")], UPGRADE),
        ([("Upgrade", "h2c")], UPGRADE),
        ([("Upgrade", "websocket, h2c")], UPGRADE),
        ([("Upgrade", "websocket"), ("Upgrade", "websocket")], UPGRADE),
        ([("Connection", "")], CONNECTION),
        ([("Connection", "close")], CONNECTION),
        ([("Connection", "upgrades")], CONNECTION),
        ([("Sec-WebSocket-Accept", "")], ACCEPT),
        ([("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")], ACCEPT),
        ([("Sec-WebSocket-Accept", "RIGHT"), ("Sec-WebSocket-Accept", "RIGHT")], ACCEPT),
        ([("Sec-WebSocket-Accept", "RIGHT, RIGHT")], ACCEPT),
        ([("Sec-WebSocket-Accept", "RIGHT=")], ACCEPT),
        ([("Sec-WebSocket-Accept", "xRIGHT")], ACCEPT),
    ],
)
def test_a_broken_101_fails_the_handshake(changes: Changes, message: str) -> None:
    with pytest.raises(InvalidHandshake) as caught:
        answer_http1(handshake(), changes)
    assert str(caught.value) == message


def test_the_accept_value_is_compared_in_its_case() -> None:
    client = handshake()
    key = dict(client.http1_request()[2])["Sec-WebSocket-Key"]
    headers = {"Upgrade": "websocket", "Connection": "upgrade", "Sec-WebSocket-Accept": accept_value(key).swapcase()}
    with pytest.raises(InvalidHandshake):
        client.check_http1_answer(Headers(headers))


NONE_OF_TWO = "the server chose no subprotocol of those offered: a, b"


@pytest.mark.parametrize(
    ("offered", "answers", "outcome"),
    [
        (("a", "b"), ["a"], "a"),
        (("a", "b"), ["b"], "b"),
        (("a", "b"), [], NONE_OF_TWO),
        (("a", "b"), ["c"], "the server chose the subprotocol 'c', which was not offered"),
        (("a", "b"), ["A"], "the server chose the subprotocol 'A', which was not offered"),
        (("a", "b"), ["a, b"], "the server chose the subprotocol 'a, b', which was not offered"),
        (("a", "b"), ["a", "b"], "the server chose more than one subprotocol"),
        (("a", "b"), ["a", "a"], "the server chose more than one subprotocol"),
        ((), ["a"], "the server chose the subprotocol 'a', which was not offered"),
        ((), [""], "the server chose the subprotocol '', which was not offered"),
        ((), ["x" * 999], f"the server chose the subprotocol '{'x' * 255}, which was not offered"),
    ],
)
def test_the_server_must_choose_one_of_the_offered_subprotocols(
    offered: tuple[str, ...], answers: list[str], outcome: str
) -> None:
    client = handshake(protocols=offered)
    headers = Headers([("sec-websocket-protocol", answer) for answer in answers])
    if outcome in offered:
        assert client.check_http2_answer(headers) == Agreement(protocol=outcome, deflate=None, extensions="")
        assert answer_http1(client, list(headers.raw)) == Agreement(protocol=outcome, deflate=None, extensions="")
        return
    with pytest.raises(InvalidHandshake) as caught:
        client.check_http2_answer(headers)
    assert str(caught.value) == outcome


def test_no_subprotocol_is_needed_if_none_was_offered() -> None:
    assert handshake().check_http2_answer(Headers()) == NOTHING
    assert answer_http1(handshake(), []) == NOTHING


def test_permessage_deflate_is_agreed_on() -> None:
    agreed = Agreement(protocol=None, deflate=PARAMETERS, extensions=ANSWER)
    client = handshake(compression=Compression())
    assert answer_http1(client, [("Sec-WebSocket-Extensions", ANSWER)]) == agreed
    assert client.check_http2_answer(Headers({"sec-websocket-extensions": ANSWER})) == agreed


@pytest.mark.parametrize(
    "answers",
    [
        ["foo"],
        ["permessage-deflate, foo"],
        ["permessage-deflate, permessage-deflate"],
        ["permessage-deflate", "permessage-deflate"],
        ["permessage-deflate; server_max_window_bits=7"],
        ["permessage-deflate; server_max_window_bits=16"],
        ["permessage-deflate; server_max_window_bits=010"],
        ["permessage-deflate; server_max_window_bits"],
        ["permessage-deflate; client_max_window_bits"],
        ["permessage-deflate; server_no_context_takeover=1"],
        ["permessage-deflate; server_no_context_takeover; server_no_context_takeover"],
        ["permessage-deflate; unknown"],
        ["permessage-deflate;"],
        ["permessage-deflate foo"],
        [";"],
        ['permessage-deflate; server_max_window_bits="10'],
        ["permessage-deflate; " * 400],
    ],
)
def test_any_other_extension_fails_the_handshake(answers: list[str]) -> None:
    client = handshake(compression=Compression())
    with pytest.raises(InvalidHandshake, match=r"^the server's Sec-WebSocket-Extensions '") as caught:
        client.check_http2_answer(Headers([("sec-websocket-extensions", answer) for answer in answers]))
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(str(caught.value)) < 500


def test_an_extension_that_was_not_offered_fails_the_handshake() -> None:
    with pytest.raises(InvalidHandshake) as caught:
        answer_http1(handshake(), [("Sec-WebSocket-Extensions", "permessage-deflate")])
    assert str(caught.value) == "the server's Sec-WebSocket-Extensions 'permessage-deflate': none was offered"


def test_http2_needs_no_accept_and_ignores_one() -> None:
    client = handshake()
    client.http2_request()
    assert client.check_http2_answer(Headers({"sec-websocket-accept": "nonsense", "upgrade": "x"})) == NOTHING


@pytest.mark.parametrize("compression", [None, Compression(), Compression(server_max_window_bits=15)])
@pytest.mark.parametrize("protocols", [(), ("a", "b")])
def test_client_and_server_agree_over_both_http_versions(
    protocols: tuple[str, ...], compression: Compression | None
) -> None:
    client = handshake(protocols=protocols, origin="http://example.com", compression=compression)
    method, target, fields = client.http1_request()
    request = read_http1_request(method, "1.1", target, Headers(fields), secure=False)
    chosen = choose_protocol(request, ("c", "b"))
    answer, agreement = http1_answer(request, protocol=chosen, compression=compression, headers={"X": "1"})
    assert client.check_http1_answer(Headers(answer)) == agreement
    assert agreement.protocol == ("b" if protocols else None)
    assert (agreement.deflate is None) == (compression is None)

    request = read_http2_request(client.http2_request(), secure=False)
    assert (request.host, request.origin) == ("example.com", "http://example.com")
    assert request.key == client.request_headers["sec-websocket-key"]
    answer, over_http2 = http2_answer(request, protocol=chosen, compression=compression, headers={"X": "1"})
    assert client.check_http2_answer(Headers(answer)) == over_http2 == agreement
