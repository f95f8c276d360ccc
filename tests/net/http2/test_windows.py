"""How the windows that we give grow: with the path and with the application, up to their bound."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator

import pytest
import trio
from hyperframe.frame import DataFrame, Frame, PingFrame, SettingsFrame, WindowUpdateFrame
from trio.testing import MockClock

import trio_ws
from trio_ws import Limits
from trio_ws._net.http2.receive_window import (
    CONNECTION_WINDOW,
    MAX_CONNECTION_WINDOW,
    MAX_WINDOW,
    ReceiveWindow,
    ReceiveWindows,
)

from .raw_http2 import RawHttp2, raw_client

KIBIBYTE = 2**10
MEBIBYTE = 2**20
FRAME = 2**14


class Path:
    """A peer that sends all that it may over a path without a bound of its own, in virtual time.

    Args:
        window: what it may send.
        round_trip: seconds.
        measured: what is known of that.
    """

    def __init__(self, window: ReceiveWindow, round_trip: float, *, measured: float | None = None) -> None:
        self.window = window
        self.received = 0
        self.now = 0.0
        self.updates = 0
        self._round_trip = round_trip
        self._measured = round_trip if measured is None else measured
        self._arriving: deque[tuple[float, int]] = deque()
        self._send(window.available, 0.0)

    def _send(self, size: int, sent_at: float) -> None:
        for at in range(0, size, FRAME):
            self._arriving.append((sent_at + self._round_trip / 2, min(FRAME, size - at)))

    def run(self, size: int, *, rate: float = float("inf")) -> None:
        """Receive so many bytes more, of which the application takes ``rate`` a second."""
        until = self.received + size
        while self.received < until:
            arrives_at, size = self._arriving.popleft()
            self.now = max(self.now + size / rate, arrives_at)
            self.window.available -= size
            self.received += size
            if self.window.available <= self.window.update_at:
                increment = self.window.update(0, self.now, self._measured, MAX_WINDOW)
                self.updates += 1
                self._send(increment, self.now + self._round_trip / 2)


def test_a_window_that_the_peer_waits_for_grows_to_its_limit_within_some_round_trips() -> None:
    path = Path(ReceiveWindow(64 * KIBIBYTE, 2 * MEBIBYTE), 0.05)
    path.run(8 * MEBIBYTE)
    assert path.window.size == 2 * MEBIBYTE
    assert path.now < 10 * 0.05  # with 64 KiB: 128 round trips


def test_a_window_grows_though_a_round_trip_takes_longer_than_when_it_was_measured() -> None:
    window = ReceiveWindow(64 * KIBIBYTE, 2 * MEBIBYTE)
    for number in range(100):  # half of a window in each, which is the least that a peer sends that waits for updates
        window.available -= window.size // 2
        window.update(0, 0.09 * number, 0.05, MAX_WINDOW)
    assert window.size == 2 * MEBIBYTE


def test_no_window_grows_by_what_is_not_known() -> None:
    path = Path(ReceiveWindow(64 * KIBIBYTE, 2 * MEBIBYTE), 0.05, measured=0.0)
    path.run(8 * MEBIBYTE)
    assert path.window.size == 64 * KIBIBYTE


@pytest.mark.parametrize(
    ("rate", "least", "most"), [(10**5, 2**16, 2**16), (10**6, 2**18, 2**19), (10**7, 2**21, 2**22)]
)
def test_a_window_grows_no_larger_than_the_application_is_fast(rate: float, least: int, most: int) -> None:
    path = Path(ReceiveWindow(64 * KIBIBYTE, 16 * MEBIBYTE), 0.05)
    path.run(16 * MEBIBYTE, rate=rate)
    assert least <= path.window.size <= most
    assert path.now <= 1.25 * 16 * MEBIBYTE / rate + 0.5  # the window is not what it waits for


def test_on_a_short_path_a_window_stays_as_it_is() -> None:
    path = Path(ReceiveWindow(64 * KIBIBYTE, 2 * MEBIBYTE), 0.0001)
    path.run(16 * MEBIBYTE, rate=10**8)
    assert path.window.size == 64 * KIBIBYTE
    assert path.updates == 16 * MEBIBYTE // (32 * KIBIBYTE)


def test_what_waits_for_the_application_takes_its_place_in_the_window() -> None:
    window = ReceiveWindow(64 * KIBIBYTE, 2 * MEBIBYTE)
    window.available -= 64 * KIBIBYTE
    assert window.update(40 * KIBIBYTE, 0.0, 0.05, MAX_WINDOW) == 24 * KIBIBYTE
    assert window.available == 24 * KIBIBYTE
    # The peer sends all of it, and the application takes 4 KiB: not enough to grow by.
    window.available -= 24 * KIBIBYTE
    assert window.update(60 * KIBIBYTE, 0.01, 0.05, MAX_WINDOW) == 4 * KIBIBYTE
    assert (window.size, window.available) == (64 * KIBIBYTE, 4 * KIBIBYTE)


def test_a_window_grows_when_a_quarter_of_it_is_taken_within_two_round_trips_and_is_measured_anew() -> None:
    window = ReceiveWindow(64 * KIBIBYTE, 2 * MEBIBYTE)
    window.update(0, 0.0, 0.05, MAX_WINDOW)
    window.available -= 16 * KIBIBYTE - 1
    assert window.update(0, 0.01, 0.05, MAX_WINDOW) == 16 * KIBIBYTE - 1
    window.available -= 1
    assert window.update(0, 0.02, 0.05, MAX_WINDOW) == 64 * KIBIBYTE + 1
    assert (window.size, window.available) == (128 * KIBIBYTE, 128 * KIBIBYTE)
    window.available -= 16 * KIBIBYTE  # a quarter only together with what was taken before
    assert window.update(0, 0.03, 0.05, MAX_WINDOW) == 16 * KIBIBYTE
    assert window.size == 128 * KIBIBYTE
    assert window.grown == 64 * KIBIBYTE


@pytest.mark.parametrize(
    ("receive_buffer", "most"),
    [(256 * KIBIBYTE, 512 * KIBIBYTE), (None, 64 * KIBIBYTE + MAX_CONNECTION_WINDOW)],
)
def test_the_window_of_a_stream_grows_to_twice_the_receive_buffer(receive_buffer: int | None, most: int) -> None:
    windows = ReceiveWindows(Limits(receive_buffer=receive_buffer, h2_stream_window=64 * KIBIBYTE))
    windows.round_trip = 0.05
    window = windows.add_stream()
    for number in range(100):
        window.available -= window.size // 2
        windows.update_stream(window, 0, 0.01 * number)
    assert window.size == most


def test_windows_give_back_what_was_taken() -> None:
    windows = ReceiveWindows(Limits(h2_stream_window=64 * KIBIBYTE))
    window = windows.add_stream()
    for available in (window, windows.connection):
        available.available -= 40 * KIBIBYTE
    assert windows.update_stream(window, 10 * KIBIBYTE, 5.0) == 30 * KIBIBYTE
    assert windows.update_connection(5.0) == 40 * KIBIBYTE
    assert windows.connection.available == CONNECTION_WINDOW


def test_what_comes_now_and_then_makes_no_window_grow() -> None:
    window = ReceiveWindow(64 * KIBIBYTE, 2 * MEBIBYTE)
    for now in range(100):
        window.available -= 40 * KIBIBYTE
        assert window.update(0, now, 0.05, MAX_WINDOW) == 40 * KIBIBYTE
    assert window.size == 64 * KIBIBYTE


def test_a_grown_window_is_updated_by_sixteenths_but_no_more_often_than_a_small_one() -> None:
    window = ReceiveWindow(64 * KIBIBYTE, 2 * MEBIBYTE)
    sizes = []
    for now in itertools.count():
        window.available = window.update_at
        window.update(0, 0.001 * now, 1.0, MAX_WINDOW)
        sizes.append((window.size // KIBIBYTE, (window.size - window.update_at) // KIBIBYTE))
        if not window.can_grow:
            break
    assert list(dict.fromkeys(sizes)) == [(64, 32), (128, 32), (256, 32), (512, 32), (1024, 64), (2048, 128)]


@pytest.mark.parametrize(("size", "limit"), [(1, 1), (1, 100), (100, 10), (7, 8)])
def test_windows_of_any_size_are_given_back(size: int, limit: int) -> None:
    window = ReceiveWindow(size, limit)
    for now in range(50):
        window.available = 0
        assert window.update(0, now * 0.001, 1.0, MAX_WINDOW) > 0
        assert window.available == window.size <= max(size, limit)


def test_the_windows_of_a_connections_streams_grow_by_no_more_than_its_own_may_be_together() -> None:
    windows = ReceiveWindows(Limits(receive_buffer=None))
    windows.round_trip = 1.0
    streams = [windows.add_stream() for _ in range(3)]
    assert [stream.size for stream in streams] == [64 * KIBIBYTE] * 3

    def use(stream: ReceiveWindow) -> None:
        for _ in range(20):
            stream.available = 0
            windows.update_stream(stream, 0, 0.0)

    use(streams[0])
    use(streams[1])
    assert streams[0].grown == MAX_CONNECTION_WINDOW
    assert streams[1].grown == 0
    windows.forget_stream(streams[0])
    use(streams[2])
    assert streams[2].grown == MAX_CONNECTION_WINDOW


def test_the_connections_window_grows_too() -> None:
    windows = ReceiveWindows(Limits())
    windows.round_trip = 0.05
    assert windows.connection.size == CONNECTION_WINDOW
    for _ in range(40):
        windows.connection.available = windows.connection.update_at
        windows.update_connection(0.0)
    assert windows.connection.size == MAX_CONNECTION_WINDOW


# ---- on a connection ----


class FarPeer:
    """A raw client, as far away as it says, that sends binary messages of a frame each as its window allows.

    Attributes:
        credit: bytes that it may send on the stream.
        sent: bytes that it has sent there.
        pings: how often it was asked.
    """

    def __init__(self, peer: RawHttp2, delay: float, *, answers_settings: bool = True) -> None:
        self.credit = 2**16
        self.connection_credit = 2**16 - 1
        self.sent = 0
        self.pings = 0
        self._peer = peer
        self._delay = delay
        self._answers_settings = answers_settings
        self._more = trio.Event()
        self._turn = trio.Lock()

    async def listen(self) -> None:
        """Take updates, and answer: all that comes is late by the delay."""
        async with trio.open_nursery() as nursery:
            for earlier in self._peer.heard:
                nursery.start_soon(self._take, earlier)
            while (frame := await self._peer.next()) is not None:
                nursery.start_soon(self._take, frame)

    async def _take(self, frame: Frame) -> None:
        await trio.sleep(self._delay)
        if isinstance(frame, WindowUpdateFrame):
            if frame.stream_id:
                self.credit += frame.window_increment
            else:
                self.connection_credit += frame.window_increment
            self._more.set()
        elif "ACK" in frame.flags:
            pass
        elif isinstance(frame, SettingsFrame) and self._answers_settings:
            await self._write(SettingsFrame(0, flags=["ACK"]))
        elif isinstance(frame, PingFrame):
            self.pings += 1
            await self._write(PingFrame(0, frame.opaque_data, flags=["ACK"]))

    async def _write(self, frame: Frame) -> None:
        async with self._turn:
            await self._peer.send(frame)

    async def send(self, size: int) -> None:
        """Send so many bytes."""
        until = self.sent + size
        message = b"\x82\xfe\x3f\xf8" + bytes(4 + 0x3FF8)  # a whole frame of HTTP/2
        while self.sent < until:
            while self.sent < until and min(self.credit, self.connection_credit) >= FRAME:
                self.credit -= FRAME
                self.connection_credit -= FRAME
                self.sent += FRAME
                await self._write(DataFrame(1, message))
            self._more = trio.Event()
            if self.sent < until:
                await self._more.wait()


def taking(go_on: Iterator[bool]) -> trio_ws.Handler:
    """Make a handler that takes messages as long as it is told to go on."""

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            async for _ in websocket:
                if not next(go_on):
                    await trio.sleep_forever()

    return handler


@pytest.mark.parametrize("receive_buffer", [2**17, 2**20])
async def test_what_waits_is_bounded_when_the_application_stops(receive_buffer: int, autojump_clock: MockClock) -> None:
    messages = 16 * MEBIBYTE // FRAME
    go_on = itertools.chain(itertools.repeat(True, messages - 1), [False])
    async with raw_client(taking(go_on), limits=Limits(receive_buffer=receive_buffer)) as peer:
        await peer.open(1)
        far = FarPeer(peer, 0.05)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.listen)
            await trio.sleep(0.05)
            began = trio.current_time()
            await far.send(16 * MEBIBYTE)
            assert trio.current_time() - began < 0.05 * (16 * MEBIBYTE / (1.5 * receive_buffer) + 10)
            taken = far.sent
            with trio.move_on_after(10):
                await far.send(16 * MEBIBYTE)
            assert far.sent - taken <= 2 * receive_buffer
            assert far.sent - taken >= receive_buffer
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("frame", [PingFrame(0, bytes(8)), SettingsFrame(0)], ids=["PING", "SETTINGS"])
async def test_what_the_peer_asks_measures_no_round_trip(frame: Frame, autojump_clock: MockClock) -> None:
    async with raw_client(taking(itertools.repeat(True))) as peer:
        await peer.open(1)
        near = FarPeer(peer, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.listen)
            await near.send(64 * KIBIBYTE)
            await trio.sleep(0.5)
            await peer.send(frame)  # half a second after the last question that was asked of it
            await near.send(MEBIBYTE)
            assert near.credit <= 64 * KIBIBYTE
            nursery.cancel_scope.cancel()


async def test_small_messages_on_a_window_that_has_grown_are_no_attack(autojump_clock: MockClock) -> None:
    messages = 4 * MEBIBYTE // FRAME
    go_on = itertools.chain(itertools.repeat(True, messages - 1), [False])
    async with raw_client(taking(go_on), limits=Limits(receive_buffer=2**17, h2_small_data=2**12)) as peer:
        await peer.open(1)
        far = FarPeer(peer, 0.05)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.listen)
            await trio.sleep(0.05)
            await far.send(4 * MEBIBYTE)
            with trio.move_on_after(10):  # as much as is taken; what comes now waits
                await far.send(2**17)
            await peer.send(DataFrame(1, b"\x82\x81\0\0\0\0x").serialize() * 100)
            await trio.sleep(1)
            assert peer.counts.small_data_frames == 100
            assert peer.counts.limits_passed == {}
            nursery.cancel_scope.cancel()


async def test_the_round_trip_is_measured_again_while_a_window_may_grow(autojump_clock: MockClock) -> None:
    async with raw_client(taking(itertools.repeat(True))) as peer:
        await peer.open(1)
        far = FarPeer(peer, 0.05, answers_settings=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.listen)
            for _ in range(30):  # slowly
                await far.send(64 * KIBIBYTE)
                await trio.sleep(1.5)
            assert 28 <= far.pings <= 31
            await far.send(8 * MEBIBYTE)
            assert far.credit > 8 * 64 * KIBIBYTE
            nursery.cancel_scope.cancel()
