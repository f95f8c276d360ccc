"""The bars: what a message, a handshake and an idle connection of this library may cost at most."""

from __future__ import annotations

from tests.benchmarks.groups import HTTP1, RAW, Case
from trio_ws._wire.deflate_backends import BEST

BARE = "bare trio socket"

RECEIVE_MOST = 2.0  # µs that receive() takes more than a checkpoint
STEP_MOST = 5.0  # ms
IDLE_MOST = {"plain": 8, "deflate": 21}  # KiB

_LONE = {RAW: 0.9, "websockets.trio": 0.4, "trio-websocket": 0.33, "aiohttp": 0.5, "picows on uvloop": 1.5}
_CROWD = {BARE: 1.0, "aiohttp": 0.9, "picows on uvloop": 1.7}
_ASYNCIO = {"websockets.asyncio": 1.0}

# At most so many times what another row costs; by the group, the variant and the size of a case.
_RATIOS: dict[tuple[str, str, str], dict[str, float]] = {
    ("echo", "plain", "64 B"): _LONE,
    ("echo", "plain", "16 KiB"): _LONE,
    ("echo", "plain", "1 MiB"): _ASYNCIO,
    ("echo", "tls", "64 B"): {RAW: 0.7},
    ("echo", "tls", "16 KiB"): {RAW: 0.7},
    ("crowd", "plain", "64 B"): _CROWD,
    ("crowd", "plain", "16 KiB"): _CROWD,
    ("crowd", "tls", "64 B"): {RAW: 0.45},
    ("crowd", "tls", "16 KiB"): {RAW: 0.7},
    ("flood", "plain", "64 B"): {"websockets.asyncio": 1.0, "aiohttp": 1.0},  # by receive_nowait()
    ("flood", "plain", "1 MiB"): _ASYNCIO,
    ("send", "plain", "1 MiB"): _ASYNCIO,
    ("handshake", "plain", ""): _ASYNCIO,
    ("handshake", "tls", ""): _ASYNCIO,
    ("http2 echo, 1 socket", "http2", "64 B"): {HTTP1: 1.5, "hypercorn": 0.5},
    ("http2 echo, 1 socket", "http2", "16 KiB"): {HTTP1: 1.5, "hypercorn": 0.5},
    ("http2 echo, 100 sockets", "http2", "64 B"): {"hypercorn": 0.2, "aethonan": 0.5},
    ("http2 echo, 100 sockets", "http2", "16 KiB"): {"hypercorn": 0.2, "aethonan": 1.2},
}


def ratios_of(case: Case) -> dict[str, float]:
    """Give what a case may cost at most, as parts of other rows."""
    if case.variant == "deflate":  # half of aiohttp with isal, as much with what Python brings
        return {"aiohttp": 0.5 if BEST.name == "isal" else 1.0}
    return _RATIOS.get((case.group, case.variant, case.size), {})
