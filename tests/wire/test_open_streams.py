"""Which streams stay open between messages, and that closing one is never noticed by the peer."""

from __future__ import annotations

import gc
import random
import threading

import pytest

from trio_ws._wire.deflate_backends import BACKENDS
from trio_ws._wire.deflater import Deflater
from trio_ws._wire.inflater import Inflater
from trio_ws._wire.open_streams import THREAD, OpenStreams, extend_window

pytestmark = pytest.mark.usefixtures("deflate_backend")


class Owner:
    """Notes that it has to close its stream."""

    def __init__(self) -> None:
        self.open = True

    def close_stream(self) -> None:
        """Note it."""
        self.open = False


def deflater(window_bits: int = 12) -> Deflater:
    return Deflater(window_bits, no_context_takeover=False, level=2, memory_level=5)


def inflater() -> Inflater:
    return Inflater(12, no_context_takeover=False)


def test_those_opened_first_are_closed_first() -> None:
    streams = OpenStreams()
    owners = [Owner() for _ in range(5)]
    for owner in owners:
        streams.admit(owner, 3)
    assert [owner.open for owner in owners] == [False, False, True, True, True]


def test_an_owner_that_is_gone_takes_nobodys_place_for_long() -> None:
    streams = OpenStreams()
    kept = Owner()
    streams.admit(Owner(), 2)
    gc.collect()
    streams.admit(kept, 2)
    streams.admit(Owner(), 2)
    assert kept.open


def test_connections_that_have_sent_lately_keep_their_streams(deflate_backend: str) -> None:
    backend = BACKENDS[deflate_backend]
    senders = [deflater() for _ in range(150)]
    receivers = [inflater() for _ in range(150)]
    text = b"What is open, and what is not. " * 40
    for _ in range(3):
        for sender, receiver in zip(senders, receivers, strict=True):
            assert receiver.inflate(sender.compress(text), final=True, max_size=None) == text
        assert sum(sender._stream is not None for sender in senders) == backend.most_compressing
        assert sum(receiver._stream is not None for receiver in receivers) == backend.most_inflating
    for sender in senders:  # also from the window of a stream that was closed
        assert len(sender.compress(text)) < 40


def test_a_stream_is_admitted_once_for_as_long_as_it_is_open(deflate_backend: str) -> None:
    most = BACKENDS[deflate_backend].most_compressing
    senders = [deflater() for _ in range(most)]
    for sender in senders:
        sender.compress(b"x" * 2000)
    for _ in range(2 * most):
        senders[0].compress(b"y" * 2000)
    assert all(sender._stream is not None for sender in senders)


def test_a_stream_that_inflates_is_admitted_once_too(deflate_backend: str) -> None:
    most = BACKENDS[deflate_backend].most_inflating
    payload = deflater().compress(b"x" * 2000)
    receivers = [inflater() for _ in range(most)]
    for receiver in [*receivers, *[receivers[0]] * 2 * most]:
        receiver.inflate(payload, final=True, max_size=None)
    assert all(receiver._stream is not None for receiver in receivers)


@pytest.mark.parametrize("closed", [False, True])
def test_without_its_stream_a_sender_remembers_four_kibibytes(closed: bool) -> None:
    sender, receiver = deflater(15), Inflater(15, no_context_takeover=False)
    old, new = (random.Random(seed).randbytes(1000) for seed in (1, 2))
    for message in (old, random.Random(3).randbytes(3000), new):
        receiver.inflate(sender.compress(message), final=True, max_size=None)
    if closed:
        sender.close_stream()
        assert len(sender.window) == 2**12
    payloads = [sender.compress(old), sender.compress(new)]
    assert [len(payload) < 40 for payload in payloads] == [not closed, True]
    assert [receiver.inflate(payload, final=True, max_size=None) for payload in payloads] == [old, new]


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_no_stream_is_closed_in_the_middle_of_a_message(cut: int) -> None:
    sender, receiver = deflater(), inflater()
    data = random.Random(cut).randbytes(300)
    for _ in range(3):
        payload = sender.compress(data[:150], final=False)
        sender.close_stream()
        payload += sender.compress(data[150:])
        read = receiver.inflate(payload[:cut], final=False, max_size=None)
        receiver.close_stream()
        assert read + receiver.inflate(payload[cut:], final=True, max_size=None) == data


def test_each_thread_has_its_own(deflate_backend: str) -> None:
    most = BACKENDS[deflate_backend].most_compressing
    kept = deflater()
    kept.compress(b"x" * 2000)
    others: list[Deflater] = []

    def send_elsewhere() -> None:
        others.extend(deflater() for _ in range(most + 1))
        for other in others:
            other.compress(b"x" * 2000)

    thread = threading.Thread(target=send_elsewhere)
    thread.start()
    thread.join()
    assert kept._stream is not None
    assert [other._stream is None for other in others] == [True] + [False] * most
    assert THREAD.compressing is not THREAD.inflating


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_window_is_the_end_of_what_was_added(kind: type[bytes] | type[bytearray] | type[memoryview]) -> None:
    window, everything = bytearray(), b""
    for size in (0, 3, 511, 512, 513, 5000, *range(0, 300, 7)):
        data = random.Random(size).randbytes(size)
        everything += data
        extend_window(window, kind(data), 512)
        assert window[-512:] == everything[-512:]
        assert len(window) <= 640
