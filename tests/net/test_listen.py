"""Where a server listens: what is checked before any I/O, sockets that others have opened, those of systemd."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from trio_ws._net import listen as module
from trio_ws._net.listen import (
    BROKEN_LISTENER,
    SocketFile,
    accept_nowait,
    check_listen_address,
    listen,
    systemd_sockets,
)

from ..activation import activated
from ..raw import open_files

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = "127.0.0.1"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server((LOCAL, 0)) as sock:
        yield sock


# What is checked.


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (TypeError, r"^reuse_port must be a bool, not 1$", {"reuse_port": 1}),
        (TypeError, r"^port must be an int, or None for a Unix socket, not '80'$", {"port": "80"}),
        (TypeError, r"^port must be an int, or None for a Unix socket, not True$", {"port": True}),
        (ValueError, r"^port=-1: it must be from 0 to 65535$", {"port": -1}),
        (ValueError, r"^port=65536: it must be from 0 to 65535$", {"port": 65536}),
        (ValueError, r"^port=None is for a Unix socket", {"port": None}),
        (ValueError, r"^reuse_port=True is for TCP", {"host": "/socket", "port": None, "reuse_port": True}),
        (
            TypeError,
            r"^socket_mode must be an int or None, not '600'$",
            {"host": "/s", "port": None, "socket_mode": "600"},
        ),
        (
            TypeError,
            r"^socket_mode must be an int or None, not True$",
            {"host": "/s", "port": None, "socket_mode": True},
        ),
        (ValueError, r"^socket_mode=0o1777: it must be from 0", {"host": "/s", "port": None, "socket_mode": 0o1777}),
        (ValueError, r"^socket_mode=-0o1: it must be from 0", {"host": "/s", "port": None, "socket_mode": -1}),
        (ValueError, r"^socket_mode=0o600 is for a Unix socket that is yet", {"socket_mode": 0o600}),
        (
            ValueError,
            r"^socket_mode=0o600 is for a Unix socket that is yet",
            {"host": None, "port": None, "sockets": [], "socket_mode": 0o600},
        ),
        (ValueError, r"^host='127.0.0.1': it must be None where sockets are passed", {"sockets": []}),
        (ValueError, r"^port=0: it must be None where sockets are passed", {"host": None, "sockets": []}),
        (ValueError, r"^sockets has none: pass at least one$", {"host": None, "port": None, "sockets": []}),
        (TypeError, r"^sockets must be of socket.socket, not 3$", {"host": None, "port": None, "sockets": [3]}),
        (
            ValueError,
            r"^reuse_port=True is for a port that is yet to be opened",
            {"host": None, "port": None, "sockets": [], "reuse_port": True},
        ),
    ],
)
def test_what_does_not_go_together_is_named(error: type[Exception], match: str, arguments: dict[str, object]) -> None:
    place: dict[str, object] = {"host": LOCAL, "port": 0, "sockets": None, "reuse_port": False, **arguments}
    with pytest.raises(error, match=match):
        check_listen_address(**place)  # type: ignore[arg-type]


def test_a_system_without_reuse_port_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(ValueError, match=r"^reuse_port=True: this system has no SO_REUSEPORT$"):
        check_listen_address(LOCAL, 80, sockets=None, reuse_port=True)


def test_a_system_without_unix_sockets_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(ValueError, match=r"^host='/run/socket': this system has no Unix sockets$"):
        check_listen_address("/run/socket", None, sockets=None, reuse_port=False)


def refused(sock: socket.socket, *more: socket.socket) -> str:
    """Pass sockets that are refused, and return what is said of them."""
    with pytest.raises(ValueError, match=r"^sockets") as caught:
        check_listen_address(None, None, sockets=[sock, *more], reuse_port=False)
    return str(caught.value)


def test_sockets_that_cannot_be_served_are_refused_and_left_alone(listening: socket.socket) -> None:
    with socket.socket() as unbound, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        closed = socket.socket()
        closed.close()
        assert (
            refused(listening, unbound) == f"sockets: {unbound!r} does not listen: call its bind() and listen() before"
        )
        assert refused(listening, datagrams).endswith("is neither a TCP nor a Unix stream socket")
        assert refused(listening, closed) == f"sockets: {closed!r} is closed"
        assert refused(listening, listening) == "sockets has one twice"
        assert min(listening.fileno(), unbound.fileno(), datagrams.fileno()) > 0


def test_where_the_system_does_not_tell_who_listens_accept_will(listening: socket.socket) -> None:
    class Silent(socket.socket):
        def getsockopt(self, *arguments: int) -> int:  # type: ignore[override]
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")

    with Silent() as sock:
        assert check_listen_address(None, None, sockets=[sock], reuse_port=False).sockets == (sock,)


# What is opened.


async def test_sockets_are_taken_as_they_are(listening: socket.socket) -> None:
    with trio.testing.assert_checkpoints():
        assert await listen(check_listen_address(None, None, sockets=iter([listening]), reuse_port=False)) == [
            listening
        ]
    assert not listening.getblocking()


async def test_sockets_are_closed_when_taking_them_is_cancelled(listening: socket.socket) -> None:
    place = check_listen_address(None, None, sockets=[listening], reuse_port=False)
    with trio.CancelScope() as scope:
        scope.cancel()
        await listen(place)
    assert scope.cancelled_caught
    assert listening.fileno() == -1


async def test_several_can_listen_on_one_port() -> None:
    (first,) = await listen(check_listen_address(LOCAL, 0, sockets=None, reuse_port=True))
    with first:
        (second,) = await listen(check_listen_address(LOCAL, first.getsockname()[1], sockets=None, reuse_port=True))
        with second:
            assert second.getsockname() == first.getsockname()
            with pytest.raises(OSError, match="in use"):
                await listen(check_listen_address(LOCAL, first.getsockname()[1], sockets=None, reuse_port=False))


async def test_no_host_is_every_address() -> None:
    opened = await listen(check_listen_address(None, 0, sockets=None, reuse_port=True))
    assert {sock.family for sock in opened} == {socket.AF_INET, socket.AF_INET6}
    for sock in opened:
        sock.close()


async def test_a_port_that_others_do_not_share_is_an_os_error(listening: socket.socket) -> None:
    before = open_files()
    with pytest.raises(OSError, match="in use"):
        await listen(check_listen_address(LOCAL, listening.getsockname()[1], sockets=None, reuse_port=True))
    assert open_files() == before


def without(monkeypatch: pytest.MonkeyPatch, number: int, *families: int) -> None:
    """Have a system that cannot make sockets of some families."""

    class Socket(socket.socket):
        def __init__(self, family: int = -1, *arguments: int, **keywords: int) -> None:
            if family in families:
                raise OSError(number, "no such socket")
            super().__init__(family, *arguments, **keywords)

    monkeypatch.setattr(socket, "socket", Socket)


async def test_an_address_family_that_the_system_has_not_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, errno.EAFNOSUPPORT, socket.AF_INET6)
    (sock,) = await listen(check_listen_address(None, 0, sockets=None, reuse_port=True))
    assert sock.family == socket.AF_INET
    sock.close()


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EMFILE])
async def test_without_any_socket_it_is_an_os_error(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, number, socket.AF_INET, socket.AF_INET6)
    with pytest.raises(OSError, match="no such socket"):
        await listen(check_listen_address(None, 0, sockets=None, reuse_port=True))


# Who calls.


def test_accepting_does_not_wait(listening: socket.socket) -> None:
    listening.setblocking(False)
    assert accept_nowait(listening) is None
    with socket.create_connection(listening.getsockname()) as calling:
        accepted = accept_nowait(listening)
        assert accepted is not None
        sock, address = accepted
        with sock:
            assert address == sock.getpeername() == calling.getsockname()


# accept(2), "Error handling" and "ERRORS": what became of a connection that was waiting.
FAILED_CONNECTION = [
    *(errno.ECONNABORTED, errno.ECONNRESET, errno.EPERM, errno.EPROTO, errno.ETIMEDOUT),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENONET),
    *(errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT),
]


class Failing(socket.socket):
    """A listener whose next connections fail with these errors."""

    numbers: list[int]
    endless = False

    def accept(self) -> tuple[socket.socket, object]:
        if self.numbers:
            number = self.numbers[0] if self.endless else self.numbers.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


@pytest.mark.parametrize("number", FAILED_CONNECTION)
def test_what_the_network_did_to_a_caller_is_no_error_and_the_next_one_is_served(number: int) -> None:
    with Failing() as sock:
        sock.bind((LOCAL, 0))
        sock.listen()
        sock.numbers = [number, number]
        with socket.create_connection(sock.getsockname()):
            accepted = accept_nowait(sock)
            assert accepted is not None
            accepted[0].close()
        sock.numbers, sock.endless = [number], True
        assert accept_nowait(sock) is None, "it comes to an end"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSR, errno.EIO])
def test_what_may_pass_is_raised_and_the_listener_is_good(number: int) -> None:
    with Failing() as sock:
        sock.numbers = [number]
        with pytest.raises(OSError, match=os.strerror(number)):
            accept_nowait(sock)
        assert number not in BROKEN_LISTENER


def test_a_listener_that_is_no_good_says_so(listening: socket.socket) -> None:
    with socket.socket() as never_listened:
        with pytest.raises(OSError, match="Invalid argument") as caught:
            accept_nowait(never_listened)
        assert caught.value.errno in BROKEN_LISTENER
    listening.close()
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        accept_nowait(listening)
    assert caught.value.errno in BROKEN_LISTENER


# A Unix socket's file.


@pytest.fixture
def path() -> Iterator[str]:
    """A path for a socket; it has about 100 bytes at most."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"{folder}/socket"


def exists(path: str) -> bool:
    return os.path.lexists(path)


async def open_at(path: str, mode: int | None = None) -> socket.socket:
    (sock,) = await listen(check_listen_address(path, None, sockets=None, reuse_port=False, socket_mode=mode))
    return sock


def dead_socket(path: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
    """Leave what a killed process leaves."""
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(path)


async def test_a_socket_that_nobody_listens_on_is_replaced(path: str) -> None:
    dead_socket(path)
    with await open_at(path), socket.socket(socket.AF_UNIX) as calling:
        calling.connect(path)


async def refused_at(path: str) -> None:
    """Check that a path is taken, and left as it was."""
    before, files = os.lstat(path), open_files()
    with pytest.raises(OSError, match="in use"):
        await open_at(path)
    assert os.lstat(path) == before
    assert open_files() == files


async def test_a_path_where_somebody_may_listen_is_left_alone(path: str) -> None:
    with await open_at(path):
        await refused_at(path)
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as first:
        full.bind(path)
        full.listen(0)
        first.connect(path)  # the queue holds one: another would have to wait
        await refused_at(path)
    os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(path)
        await refused_at(path)


async def test_what_is_no_socket_is_left_alone(path: str) -> None:
    os.close(os.open(path, os.O_CREAT))
    await refused_at(path)
    os.unlink(path)
    os.mkdir(path)
    await refused_at(path)
    os.rmdir(path)
    dead_socket(f"{path}2")
    os.symlink(f"{path}2", path)
    await refused_at(path)


async def test_what_vanishes_while_it_is_looked_at_is_an_os_error(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_socket(path)
    monkeypatch.setattr(os, "lstat", lambda path: os.stat(f"{path} is gone"))
    with pytest.raises(OSError, match="in use"):
        await open_at(path)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0])
async def test_the_mode_of_a_socket_is_that_which_is_asked_for(path: str, mode: int) -> None:
    before = os.umask(0o027)
    try:
        with await open_at(path, mode):
            assert stat.S_IMODE(os.stat(path).st_mode) == mode
        os.unlink(path)
        with await open_at(path):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o750
    finally:
        os.umask(before)


async def test_nobody_can_connect_before_the_mode_is_set(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def chmod(name: str, mode: int) -> None:
        with socket.socket(socket.AF_UNIX) as calling, pytest.raises(ConnectionRefusedError):
            calling.connect(name)
        raise PermissionError("not yours")

    monkeypatch.setattr(os, "chmod", chmod)
    files = open_files()
    with pytest.raises(PermissionError, match="not yours"):
        await open_at(path, 0o600)
    assert not exists(path)
    assert open_files() == files


async def test_a_socket_file_is_removed_by_the_server_that_made_it_and_by_no_other(path: str) -> None:
    with await open_at(path):
        ours = SocketFile(path)
        os.unlink(path)
        with await open_at(path):
            ours.remove()
            assert exists(path)
            theirs = SocketFile(path)
            theirs.remove()
            assert not exists(path)
            with await open_at(path):
                theirs.remove()
                assert exists(path)
    SocketFile(f"{path} is not there").remove()


# systemd.

REPORT = """
import os, socket, sys
sys.path.insert(0, sys.argv[1])
from trio_ws import systemd_sockets
first, second = systemd_sockets(), systemd_sockets()
names = [sock.getsockname() for sock in first]
print(names, second, [sock.get_inheritable() for sock in first], [k for k in os.environ if k.startswith("LISTEN_")])
"""


def report(*sockets: socket.socket, **changed: str) -> str:
    """Run REPORT as systemd would start it, and return what it says."""
    command = [sys.executable, "-c", REPORT, str(Path(__file__).parents[2])]
    with activated(command, *sockets, **changed) as process:
        return process.communicate(timeout=30)[0]


def test_sockets_come_from_systemd_once(listening: socket.socket) -> None:
    with closing(socket.create_server((LOCAL, 0))) as other:
        names = [listening.getsockname(), other.getsockname()]
        assert report(listening, other) == f"{names} [] [False, False] []\n"


def test_sockets_for_another_process_are_not_taken(listening: socket.socket) -> None:
    assert report(listening, LISTEN_PID="1") == "[] [] [] []\n"


def test_without_systemd_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert systemd_sockets() == []
    assert "LISTEN_FDS" not in os.environ


@pytest.mark.parametrize(
    ("pid", "count", "match"), [("me", "1", "^LISTEN_PID='me': it"), ("5", "0", "^LISTEN_FDS='0'")]
)
def test_variables_that_are_no_numbers_are_named(
    pid: str, count: str, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_PID", pid)
    monkeypatch.setenv("LISTEN_FDS", count)
    with pytest.raises(ValueError, match=match):
        systemd_sockets()


def test_what_is_no_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(module, "_FIRST_DESCRIPTOR", reading)
    for count in (1, 10**6):
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", str(count))
        with pytest.raises(ValueError, match=f"^LISTEN_FDS={count}: descriptor {reading} is no socket$"):
            systemd_sockets()
    os.close(reading)
    os.close(writing)


def test_a_descriptor_that_is_missing_is_refused(listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    number = os.dup(listening.fileno())
    os.close(number)
    monkeypatch.setattr(module, "_FIRST_DESCRIPTOR", number)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    with pytest.raises(ValueError, match=f"^LISTEN_FDS=1: descriptor {number} is no socket$"):
        systemd_sockets()
