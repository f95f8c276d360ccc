"""Promise 3: what floods of HTTP/2 cost a server in a process of its own, by a peer that reads only at the end."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws

from ..cli.program import HOST, running
from ..fuzz.http2 import (
    ACK,
    CALM,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    PING,
    PREFACE,
    PRIORITY,
    REQUEST,
    SETTINGS,
    Encoder,
    frame,
    settings,
    window_update,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2**20
NO_WINDOW = PREFACE + settings([(INITIAL_WINDOW, 0)])
OPENING = PREFACE + settings() + Encoder().headers(1, REQUEST)
MANY_SETTINGS = settings((number, number) for number in range(0x100, 0x100 + 2730))
BOMB = b"\x90" * 1000  # 1,000 times "accept-encoding: gzip, deflate"

FLOODS = {
    "PING": (OPENING, frame(PING, 0, 0, bytes(8)) * 100_000, 4 * MIB),
    "PING answers": (OPENING, frame(PING, ACK, 0, bytes(8)) * 100_000, 4 * MIB),
    "SETTINGS": (OPENING, frame(SETTINGS, 0, 0, b"") * 100_000, 4 * MIB),
    "PRIORITY": (OPENING, frame(PRIORITY, 0, 3, bytes(5)) * 100_000, 4 * MIB),
    "WINDOW_UPDATE": (OPENING, window_update(0, 1) * 100_000, 4 * MIB),
    "unknown frames": (OPENING, frame(0x77, 0, 0, b"") * 100_000, 4 * MIB),
    "many settings": (OPENING, MANY_SETTINGS * 21, MIB),
    "header bombs": (
        NO_WINDOW,
        b"".join(frame(HEADERS, END_HEADERS, stream_id, BOMB) for stream_id in range(1, 200, 2)),
        2 * MIB,
    ),
}
ANSWERED = ("PING", "SETTINGS")  # answers that were not read can be in the way of the GOAWAY


def forget_peak(process: trio.Process) -> None:
    """Have the most memory that a process has had counted from now on."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak_of(process: trio.Process) -> int:
    """Tell the bytes of memory that a process has had at most."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def attack(port: int, opening: bytes, flood: bytes) -> bytes:
    """Send it all, read nothing meanwhile; then give what was answered."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await sock.connect((HOST, port))
    async with trio.SocketStream(sock) as stream:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(opening + flood)
            await stream.send_eof()
        answer = b""
        with contextlib.suppress(trio.BrokenResourceError):  # it hung up with some of the flood unread
            async for data in stream:
                answer += data
        return answer


def goaway_codes(answer: bytes) -> Iterator[int]:
    """Give the codes of the GOAWAY frames in it."""
    while len(answer) >= 9:
        size, kind = int.from_bytes(answer[:3]), answer[3]
        if kind == GOAWAY:
            yield int.from_bytes(answer[13:17])
        answer = answer[9 + size :]


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_costs_little_memory_and_the_server_goes_on(kind: str) -> None:
    opening, flood, most = FLOODS[kind]
    async with running("serve", "--port", "0") as (process, lines):
        url = (await lines.next()).removeprefix("listening on ")
        port = int(url.rpartition(":")[2].strip("/"))
        async with trio_ws.open_websocket(url) as bystander:
            await attack(port, opening, flood[:1000])  # what the first connection makes once and for all
            forget_peak(process)
            before = peak_of(process)
            for _ in range(3):
                answer = await attack(port, opening, flood)
                codes = list(goaway_codes(answer))
                assert codes == [CALM] or (not codes and kind in ANSWERED)
            assert peak_of(process) - before < most
            await bystander.send("still there")
            assert await bystander.receive() == "still there"
