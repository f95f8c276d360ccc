"""Two network namespaces and a bad link between them: packets go astray, late and out of order, as a seed says.

The link is a TUN device in each namespace and a thread that carries packets between them. So it needs root, iproute2
and /dev/net/tun, but none of the kernel's modules for bad links, and a test can cut it and mend it at any moment. Each
namespace lives in a thread of its own and is gone with it: nothing has a name outside, and nothing stays behind.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import selectors
import socket
import struct
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

Result = TypeVar("Result")

SERVER, CLIENT = "198.18.0.1", "198.18.0.2"  # RFC 2544 §C.2.2: for tests of networks
MTU = 1500

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000


class Namespace:
    """A network of its own, with one device.

    Args:
        address: of the device.
        peer: the address at the other end.

    Attributes:
        device: reads give the packets that leave, writes are packets that come.
    """

    def __init__(self, address: str, peer: str) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._address = address
        self._peer = peer
        self.device = self.run(self._enter)

    def run(self, function: Callable[[], Result]) -> Result:
        """Call a function inside."""
        return self._thread.submit(function).result()

    def _enter(self) -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "cannot make a network namespace")
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"bad0", _IFF_TUN | _IFF_NO_PI))
        self._ip("address", "add", self._address, "peer", self._peer, "dev", "bad0")
        self._ip("link", "set", "bad0", "up", "mtu", str(MTU))
        return device

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, timeout=10)  # a child is where its thread is

    def set_link(self, state: str) -> None:
        """Take the device "down", or "up" again."""
        self.run(lambda: self._ip("link", "set", "bad0", state))

    def listen(self) -> socket.socket:
        """Make a socket that listens here."""
        return self.run(lambda: socket.create_server((self._address, 0)))

    def connect(self, address: tuple[str, int]) -> socket.socket:
        """Make a socket, and begin to connect it."""

        def make() -> socket.socket:
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(address)
            return sock

        return self.run(make)

    def close(self) -> None:
        """Leave it, and so end it once its sockets are closed."""
        os.close(self.device)
        self._thread.shutdown()


@dataclass(frozen=True, slots=True, kw_only=True)
class Badness:
    """What happens to packets.

    Attributes:
        loss: how likely one is lost.
        delay: seconds that it takes.
        jitter: seconds more or less, evenly; so one may overtake another.
        reorder: how likely it is not delayed at all.
    """

    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    reorder: float = 0.0


class BadLink:
    """The server's namespace, the client's, and the link; a context manager.

    Args:
        badness: what happens to packets.
        seed: of the chance.

    Attributes:
        server: one end.
        client: the other.
        cut: nothing gets through; can be set and taken back.
        carried: packets that were carried.
        lost: packets that were lost to chance.
    """

    def __init__(self, badness: Badness = Badness(), seed: int = 0) -> None:  # it is frozen
        self._badness = badness
        self._chance = random.Random(seed)
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._stop, self._told_to_stop = os.pipe()
        self._thread = threading.Thread(target=self._carry)
        self.server = Namespace(SERVER, CLIENT)
        self.client = Namespace(CLIENT, SERVER)
        self.cut = False
        self.carried = 0
        self.lost = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._told_to_stop)
        self._thread.join()
        os.close(self._stop)
        self.server.close()
        self.client.close()

    def _carry(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self.server.device, selectors.EVENT_READ, self.client.device)
        selector.register(self.client.device, selectors.EVENT_READ, self.server.device)
        selector.register(self._stop, selectors.EVENT_READ)
        with selector:
            while True:
                timeout = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
                for key, _ in selector.select(timeout):
                    if key.data is None:
                        return
                    self._take(key.fd, key.data)
                self._deliver()

    def _take(self, device: int, other: int) -> None:
        bad, chance = self._badness, self._chance
        for _ in range(64):
            try:
                packet = os.read(device, 2 * MTU)
            except BlockingIOError:
                return
            if self.cut:
                continue
            if chance.random() < bad.loss:
                self.lost += 1
                continue
            due = time.monotonic()
            if chance.random() >= bad.reorder:
                due += bad.delay + chance.uniform(-bad.jitter, bad.jitter)
            self.carried += 1
            heapq.heappush(self._waiting, (due, self.carried, other, packet))

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, _, device, packet = heapq.heappop(self._waiting)
            if not self.cut:
                try:
                    os.write(device, packet)
                except OSError:  # the link is down there
                    self.lost += 1
