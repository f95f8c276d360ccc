"""Which sockets are ready: the same in each of the ways to ask the system."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.raw import tcp_pair
from tests.reactors import KQUEUE, READINESS, SETS, FakeSocket, Member
from tests.serving import until
from trio_ws import _readiness as readiness_module
from trio_ws._reactor import Reactor
from trio_ws._readiness import (
    ERROR,
    HANGUP,
    PEER_ENDED,
    READ,
    WRITE,
    EpollSet,
    KqueueSet,
    SmallTasks,
    best_readiness,
    can_wait_for_kqueue,
)
from trio_ws._util.nursery import BackgroundNursery


def fill(sock: socket.socket) -> None:
    """Write until the system takes nothing more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(2**16))


def read_all_there_is(sock: socket.socket) -> None:
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(2**16)


@pytest.mark.parametrize("kind", READINESS)
async def test_nothing_is_left_open(kind: str) -> None:
    ours, theirs = socket.socketpair()
    for _ in range(3):
        async with BackgroundNursery() as nursery:
            reactor, member = Reactor(nursery, shield=True, readiness=READINESS[kind](nursery)), Member()
            sock = FakeSocket(ours)
            reactor.add(member)
            await wait_all_tasks_blocked()
            reactor.add_socket(sock)
            reactor.flush_when_writable(sock)
            theirs.send(b"x")
            await wait_all_tasks_blocked(0.001)
            assert sock.events
            reactor.again(sock)
            await wait_all_tasks_blocked(0.001)
            assert reactor.lone_socket is (None if kind == "tasks" else sock)
            reactor.remove_socket(sock)
            assert reactor.lone_socket is None
            reactor.remove(member)
            await wait_all_tasks_blocked()
            assert not nursery.child_tasks
            reactor.remove_socket(sock)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("kind", READINESS)
async def test_with_a_shield_sockets_are_served_until_the_last_member_goes(kind: str) -> None:
    ours, theirs = socket.socketpair()
    sock, member = FakeSocket(ours), Member()
    async with trio.open_nursery() as nursery:
        reactor = Reactor(nursery, shield=True, readiness=READINESS[kind](nursery))
        reactor.add(member)
        reactor.add_socket(sock)
        nursery.cancel_scope.cancel()
        try:
            with trio.CancelScope(shield=True), trio.fail_after(10):
                await wait_all_tasks_blocked(0.001)
                sock.events.clear()
                theirs.send(b"x")
                await until(lambda: any(events & READ for events in sock.events))
                fill(ours)
                sock.unsent = 1
                reactor.flush_when_writable(sock)
                await wait_all_tasks_blocked(0.001)
                sock.events.clear()
                sock.on_events = lambda: setattr(sock, "unsent", 0)
                read_all_there_is(theirs)
                await until(lambda: any(events & WRITE for events in sock.events))
        finally:
            reactor.remove_socket(sock)
            reactor.remove(member)
    ours.close()
    theirs.close()


async def test_small_tasks_do_nothing_in_a_pause() -> None:
    ours, theirs = socket.socketpair()
    sock, member = FakeSocket(ours), Member()
    sock.reading_paused = True
    theirs.send(b"x")
    async with BackgroundNursery() as nursery:
        reactor = Reactor(nursery, shield=True, readiness=SmallTasks(nursery))
        reactor.add(member)
        reactor.add_socket(sock)
        try:
            for _ in range(20):
                await trio.lowlevel.checkpoint()
            assert sock.events == []
            sock.reading_paused = False
            reactor.again(sock)
            with trio.fail_after(10):
                await until(lambda: sock.events == [READ])
        finally:
            reactor.remove_socket(sock)
            reactor.remove(member)
    ours.close()
    theirs.close()


# ---- what the sets tell ----


class Watched:
    """A socket in a set, and what the set tells of it."""

    def __init__(self, kind: str, nursery: trio.Nursery) -> None:
        self.ours, self.theirs = tcp_pair()
        self.sock = FakeSocket(self.ours)
        self.set = SETS[kind](nursery)
        self.set.add(self.sock)
        self.fetch()

    def fetch(self) -> int:
        """What has happened since the last call."""
        ready: dict[Any, int] = {}
        self.set.fetch(ready)
        return ready.get(self.sock, 0)

    def fetched(self, event: int) -> bool:
        return bool(self.fetch() & event)

    def close(self) -> None:
        self.set.remove(self.sock)
        self.set.close()
        self.ours.close()
        self.theirs.close()


@pytest.fixture(params=SETS)
def watched(request: pytest.FixtureRequest, nursery: trio.Nursery) -> Iterator[Watched]:
    with contextlib.closing(Watched(request.param, nursery)) as watched:
        yield watched


async def test_input_is_told_once_each_time_that_some_comes(watched: Watched) -> None:
    for _ in range(3):
        watched.theirs.send(b"x")
        assert watched.fetch() & ~WRITE == READ
        assert watched.fetch() & READ == 0


async def test_room_is_told_when_there_is_some_again(watched: Watched) -> None:
    for _ in range(3):
        fill(watched.ours)
        watched.set.wait_writable(watched.sock)
        assert watched.fetch() == 0
        read_all_there_is(watched.theirs)
        await until(lambda: watched.fetched(WRITE))


async def test_nothing_is_told_of_input_while_a_task_waits_for_it_and_all_of_it_afterwards(watched: Watched) -> None:
    for _ in range(3):
        watched.set.ignore_input(watched.sock)
        watched.theirs.send(b"x")
        assert watched.fetch() & READ == 0
        watched.set.watch_input(watched.sock)
        assert watched.fetch() & READ
        assert watched.ours.recv(10) == b"x"
    watched.set.remove(watched.sock)
    watched.set.watch_input(watched.sock)
    watched.theirs.send(b"x")
    assert watched.fetch() == 0


async def test_room_can_be_waited_for_while_a_task_waits_for_input(watched: Watched) -> None:
    watched.set.ignore_input(watched.sock)
    fill(watched.ours)
    watched.sock.unsent = 1
    watched.set.wait_writable(watched.sock)
    read_all_there_is(watched.theirs)
    await until(lambda: watched.fetched(WRITE))
    watched.set.watch_input(watched.sock)
    fill(watched.ours)
    watched.set.wait_writable(watched.sock)
    watched.fetch()
    read_all_there_is(watched.theirs)
    await until(lambda: watched.fetched(WRITE))


async def test_the_peers_end_is_told_behind_what_is_unread(watched: Watched) -> None:
    watched.theirs.send(b"x")
    watched.fetch()
    watched.theirs.shutdown(socket.SHUT_WR)
    assert watched.fetch() & ~WRITE == READ | PEER_ENDED
    assert watched.fetch() == 0


async def test_our_own_end_is_not_taken_for_the_peers(watched: Watched) -> None:
    watched.ours.shutdown(socket.SHUT_WR)
    watched.set.wait_writable(watched.sock)
    assert watched.fetch() & (READ | HANGUP) == 0


async def test_a_reset_is_told_as_an_error(watched: Watched) -> None:
    watched.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    watched.theirs.close()
    events = watched.fetch()
    assert events & ERROR
    assert events & READ
    with pytest.raises(ConnectionResetError):
        watched.ours.recv(1)


async def test_what_is_removed_is_told_no_more_and_can_be_added_again(watched: Watched) -> None:
    watched.set.wait_writable(watched.sock)
    watched.set.remove(watched.sock)
    watched.theirs.send(b"x")
    assert watched.fetch() == 0
    watched.set.add(watched.sock)
    assert watched.fetched(READ)


async def test_a_set_that_was_closed_is_made_anew(watched: Watched) -> None:
    watched.set.close()
    watched.set.remove(watched.sock)
    assert watched.fetch() == 0
    watched.set.add(watched.sock)
    watched.theirs.send(b"x")
    assert watched.fetched(READ)


# ---- which one is taken ----


async def test_the_best_is_taken_that_the_system_has(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(select, "epoll"):
        assert isinstance(best_readiness(nursery), EpollSet)
    monkeypatch.setattr(readiness_module, "_open_epoll", None)
    monkeypatch.setattr(readiness_module, "select", KQUEUE)
    assert isinstance(best_readiness(nursery), KqueueSet)
    monkeypatch.setattr(readiness_module, "can_wait_for_kqueue", lambda _: False)
    assert isinstance(best_readiness(nursery), SmallTasks)
    monkeypatch.setattr(readiness_module, "select", ModuleType("select"))
    assert isinstance(best_readiness(nursery), SmallTasks)


def with_control(control: Callable[..., list[object]]) -> ModuleType:
    """The module of a system whose queues answer in this way."""

    class Queue:
        def __init__(self) -> None:
            self._queue = KQUEUE.kqueue()
            self.fileno, self.close = self._queue.fileno, self._queue.close
            self.control = control

    system = ModuleType("select")
    vars(system).update(vars(KQUEUE), kqueue=Queue)
    return system


def refuse(*_: object) -> list[object]:
    raise OSError("cannot be waited for")


def test_a_system_whose_kqueue_cannot_be_waited_for_is_found_out() -> None:
    deaf = with_control(lambda *_: [])
    always_ready = with_control(lambda *_: ["an event"])
    assert can_wait_for_kqueue(KQUEUE)
    assert not can_wait_for_kqueue(deaf)
    assert not can_wait_for_kqueue(always_ready)
    assert not can_wait_for_kqueue(with_control(refuse))


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="there is no epoll")
def test_epoll_flags_are_those_of_the_system() -> None:
    assert READ == select.EPOLLIN
    assert WRITE == select.EPOLLOUT
    assert HANGUP == select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP
