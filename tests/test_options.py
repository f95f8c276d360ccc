"""Options: their defaults, and that nothing nonsensical gets in."""

from __future__ import annotations

import dataclasses
import math

import pytest

from trio_ws import SAME_ORIGIN, Compression, Keepalive, Limits
from trio_ws._options import check_shared_options, check_timeout


def test_the_defaults() -> None:
    limits = Limits()
    assert (limits.max_message_size, limits.receive_buffer, limits.send_buffer) == (2**20, 2**20, 2**16)
    assert (limits.fragments, limits.max_empty_fragments) == (4096, 64)
    assert Keepalive() == Keepalive(interval=20, timeout=20)
    assert (Compression().server_max_window_bits, Compression().client_max_window_bits) == (12, 12)
    assert repr(SAME_ORIGIN) == "SAME_ORIGIN"


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
        ("server_max_window_bits", 8),
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
