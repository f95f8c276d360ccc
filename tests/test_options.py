"""Options: their defaults, and that nothing nonsensical gets in."""

from __future__ import annotations

import dataclasses
import math
from typing import TypedDict

import pytest

from trio_ws import SAME_ORIGIN, Compression, Keepalive, Limits, open_websocket, serve_websocket
from trio_ws._client.connect import ClientKeywords
from trio_ws._options import check_names, check_shared_options, check_timeout, defaults_of
from trio_ws._server.server import ServerKeywords


def test_the_defaults() -> None:
    assert dataclasses.asdict(Limits()) == {
        "max_message_size": 2**20,
        "max_fragments": "auto",
        "max_empty_fragments": 64,
        "receive_buffer": 2**20,
        "send_buffer": 2**16,
        "control_burst": 1000,
        "control_rate": 100,
        "max_request_line": 8192,
        "max_header_line": 8192,
        "max_headers": 100,
        "max_head_size": 16384,
        "max_body_size": 65536,
        "close_linger": 2,
        "h2_max_streams": 100,
        "h2_max_handlers": "auto",
        "h2_refused_burst": 100,
        "h2_refused_rate": 10,
        "h2_max_streams_total": 10_000,
        "h2_stream_window": 2**16,
        "h2_reset_burst": 100,
        "h2_reset_rate": 10,
        "h2_control_burst": 1000,
        "h2_control_rate": 100,
        "h2_queued_control": 1000,
        "h2_max_settings": 32,
        "h2_max_continuations": 8,
        "h2_header_timeout": 5,
        "h2_max_empty_data": 10,
        "h2_small_data": 2**18,
        "h2_stall_timeout": 60,
        "h2_idle_timeout": 60,
    }
    assert dataclasses.asdict(Compression()) == {
        "threshold": 1024,
        "level": 2,
        "memory_level": 5,
        "server_max_window_bits": 13,
        "client_max_window_bits": 13,
        "server_no_context_takeover": False,
        "client_no_context_takeover": False,
        "backend": None,
    }
    assert dataclasses.asdict(Keepalive()) == {"interval": 20, "timeout": 20}
    assert repr(SAME_ORIGIN) == "SAME_ORIGIN"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("threshold", (0, 2**40)),
        ("level", (1, 9)),
        ("memory_level", (1, 9)),
        ("server_max_window_bits", (9, 15)),
        ("client_max_window_bits", (9, 15)),
    ],
)
def test_compression_takes_the_ends_of_its_ranges(name: str, values: tuple[int, int]) -> None:
    for value in values:
        assert getattr(Compression(**{name: value}), name) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Limits, Compression, Keepalive])
def test_options_are_frozen_and_given_by_name(kind: type[Limits | Compression | Keepalive]) -> None:
    name = dataclasses.fields(kind)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(kind(), name, 1)
    with pytest.raises(TypeError):
        kind(1)  # type: ignore[call-arg]
    assert dataclasses.replace(kind(), **{name: 7}) == kind(**{name: 7})  # type: ignore[arg-type]
    assert len({kind(), kind()}) == 1


@pytest.mark.parametrize(
    ("size", "fragments", "expected"),
    [
        (2**20, "auto", 4096),
        (1000, "auto", 1024),
        (None, "auto", math.inf),
        (2**20, 7, 7),
        (2**20, None, math.inf),
    ],
)
def test_fragments_follow_the_size(size: int | None, fragments: object, expected: float) -> None:
    assert Limits(max_message_size=size, max_fragments=fragments).fragments == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
@pytest.mark.parametrize("value", [-1, True, "5", math.nan])
def test_no_limit_is_nonsense(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"Limits\({name}="):
        Limits(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1e6, 2**62])
def test_bytes_are_counted_in_ints_of_a_machine_word(value: float) -> None:
    with pytest.raises(ValueError, match="must be an int below"):
        Limits(max_message_size=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["h2_max_streams", "h2_stream_window"])
def test_what_http2_has_31_bits_for_has_no_more(name: str) -> None:
    assert getattr(Limits(**{name: 2**31 - 1}), name) == 2**31 - 1
    with pytest.raises(ValueError, match=rf"Limits\({name}=2147483648\): it must be at most"):
        Limits(**{name: 2**31})


def test_what_may_be_nothing() -> None:
    assert Limits(max_message_size=0, max_body_size=0, close_linger=0, control_rate=0).max_message_size == 0
    optional = ("max_message_size", "max_fragments", "max_empty_fragments", "receive_buffer", "send_buffer")
    for name in (*optional, "control_burst"):
        assert getattr(Limits(**{name: None}), name) is None  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="from 1"):
        Limits(receive_buffer=0)
    with pytest.raises(ValueError, match="max_headers=None"):
        Limits(max_headers=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", -1),
        ("level", 0),
        ("level", 10),
        ("memory_level", 0),
        ("memory_level", 10),
        ("server_max_window_bits", 8),
        ("server_max_window_bits", 16),
        ("client_max_window_bits", 8),
        ("client_max_window_bits", 16),
        ("level", True),
        ("level", 6.0),
    ],
)
def test_compression_is_checked(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"Compression\({name}="):
        Compression(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("interval", 0), ("timeout", 0), ("interval", -1), ("interval", None)])
def test_keepalive_is_checked(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"Keepalive\({name}="):
        Keepalive(**{name: value})  # type: ignore[arg-type]
    assert Keepalive(timeout=None).timeout is None


@pytest.mark.parametrize("value", [-1, math.nan, "1", None, True])
def test_a_timeout_is_a_number_of_seconds(value: object) -> None:
    with pytest.raises(ValueError, match="connect_timeout="):
        check_timeout("connect_timeout", value)  # type: ignore[arg-type]
    check_timeout("connect_timeout", math.inf)
    check_timeout("connect_timeout", 0)


@pytest.mark.parametrize(
    ("name", "value"), [("limits", None), ("compression", True), ("keepalive", 20), ("limits", {"max_message_size": 1})]
)
def test_options_have_their_class(name: str, value: object) -> None:
    good = {
        "compression": None,
        "limits": Limits(),
        "keepalive": None,
        "connect_timeout": 1.0,
        "close_timeout": 1.0,
    }
    check_shared_options(**good)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=f"{name} must be a"):
        check_shared_options(**{**good, name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["connect_timeout", "close_timeout"])
def test_shared_timeouts_are_numbers_of_seconds(name: str) -> None:
    timeouts = {"connect_timeout": 1.0, "close_timeout": 1.0, name: -1.0}
    with pytest.raises(ValueError, match=f"^{name}=-1.0: it must be a number of seconds from 0 on$"):
        check_shared_options(compression=Compression(), limits=Limits(), keepalive=Keepalive(), **timeouts)


def test_a_keepalive_may_be_as_short_as_one_likes() -> None:
    assert Keepalive(interval=0.5, timeout=math.inf) == Keepalive(interval=0.5, timeout=math.inf)


def test_defaults_are_read_from_a_signature() -> None:
    class Wanted(TypedDict, total=False):
        a: int
        b: str

    def function(a: int = 1, *, b: str = "x", c: float = 0.5) -> None: ...

    assert defaults_of(function, Wanted) == {"a": 1, "b": "x"}


def test_every_shared_option_has_a_default_that_clients_and_servers_agree_on() -> None:
    client, server = defaults_of(open_websocket, ClientKeywords), defaults_of(serve_websocket, ServerKeywords)
    shared = client.keys() & server.keys()
    assert shared == {
        "ssl_context",
        "compression",
        "limits",
        "keepalive",
        "connect_timeout",
        "close_timeout",
        "instruments",
    }
    assert {name: value for name, value in client.items() if name in shared} == {
        name: value for name, value in server.items() if name in shared
    }


def test_names_of_options_are_known() -> None:
    check_names({"a": 1}, {"a": 2, "b": 3})
    with pytest.raises(TypeError, match=r"^unexpected keyword argument 'c'$"):
        check_names({"a": 1, "c": 1}, {"a": 2, "b": 3})
