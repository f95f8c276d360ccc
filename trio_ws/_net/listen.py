"""Where a server listens: TCP ports, Unix sockets, and sockets that somebody else has opened."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)
_SYSTEMD_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_FAMILIES = (socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", None))
_BACKLOG = 65535  # the system has a maximum of its own


def _numbers(*names: str) -> frozenset[int]:
    """The numbers of those errors that this system has."""
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


_NOBODY_THERE = _numbers("EAGAIN", "EWOULDBLOCK", "EINTR")
# accept(2): what became of one connection before it was accepted, which is gone with that.
_CONNECTION_FAILED = _numbers(
    *("ECONNABORTED", "ECONNRESET", "EPERM", "EPROTO", "ETIMEDOUT"),
    *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENONET"),
    *("ENOPROTOOPT", "EOPNOTSUPP", "EPFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"),
)
BROKEN_LISTENER = _numbers("EBADF", "EFAULT", "EINVAL", "ENOTSOCK", "WSAEBADF", "WSAEFAULT", "WSAEINVAL")
"""What accept(2) says of a listener that is no good any more; all else passes."""

_MOST_FAILED = 16  # connections in a row; then others may run


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenAddress:
    """Where to listen, checked and not yet opened; either sockets that listen already, or the rest.

    Attributes:
        sockets: sockets that listen; None: to be opened.
        host: a name or an address, None: every address.
        port: 0: the system chooses.
        path: a Unix socket's, None: TCP.
        reuse_port: whether other processes may listen on the same port.
        socket_mode: the permissions of the Unix socket's file; None: as the umask leaves them.
    """

    sockets: tuple[socket.socket, ...] | None
    host: str | None
    port: int
    path: str | None
    reuse_port: bool
    socket_mode: int | None


def check_listen_address(
    host: str | os.PathLike[str] | None,
    port: int | None,
    *,
    sockets: Iterable[socket.socket] | None,
    reuse_port: bool,
    socket_mode: int | None = None,
) -> ListenAddress:
    """Check where a caller wants to listen.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: they do not go together, or a socket cannot be used.
    """
    if not isinstance(reuse_port, bool):
        raise TypeError(f"reuse_port must be a bool, not {reuse_port!r}")
    if sockets is not None:
        for name, value in (("host", host), ("port", port)):
            if value is not None:
                raise ValueError(f"{name}={value!r}: it must be None where sockets are passed, which have theirs")
        if reuse_port:
            raise ValueError("reuse_port=True is for a port that is yet to be opened: pass no sockets with it")
        _check_socket_mode(socket_mode, None)
        return ListenAddress(
            sockets=_check_sockets(sockets), host=None, port=0, path=None, reuse_port=False, socket_mode=None
        )
    path = _socket_path(host)
    _check_socket_mode(socket_mode, path)
    if path is None:
        if port is None:
            raise ValueError("port=None is for a Unix socket: give a port, or 0 to let the system choose")
        if isinstance(port, bool) or not isinstance(port, int):
            raise TypeError(f"port must be an int, or None for a Unix socket, not {port!r}")
        if not 0 <= port <= 65535:
            raise ValueError(f"port={port}: it must be from 0 to 65535")
        if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
            raise ValueError("reuse_port=True: this system has no SO_REUSEPORT")
        return ListenAddress(
            sockets=None,
            host=None if host is None else str(host),
            port=port,
            path=None,
            reuse_port=reuse_port,
            socket_mode=None,
        )
    if port is not None:
        raise ValueError(f"port={port!r}: a Unix socket has none, it must be None")
    if reuse_port:
        raise ValueError("reuse_port=True is for TCP: a Unix socket has one listener")
    if not hasattr(socket, "AF_UNIX"):
        raise ValueError(f"host={host!r}: this system has no Unix sockets")
    return ListenAddress(sockets=None, host=None, port=0, path=path, reuse_port=False, socket_mode=socket_mode)


def _check_socket_mode(mode: int | None, path: str | None) -> None:
    if mode is None:
        return
    if isinstance(mode, bool) or not isinstance(mode, int):
        raise TypeError(f"socket_mode must be an int or None, not {mode!r}")
    if not 0 <= mode <= 0o777:
        raise ValueError(f"socket_mode={mode:#o}: it must be from 0 to 0o777")
    if path is None:
        raise ValueError(f"socket_mode={mode:#o} is for a Unix socket that is yet to be opened: give its path as host")


def _check_sockets(sockets: Iterable[socket.socket]) -> tuple[socket.socket, ...]:
    checked = tuple(sockets)
    if not checked:
        raise ValueError("sockets has none: pass at least one")
    for sock in checked:
        if not isinstance(sock, socket.socket):
            raise TypeError(f"sockets must be of socket.socket, not {sock!r}")
        if sock.fileno() < 0:
            raise ValueError(f"sockets: {sock!r} is closed")
        if sock.family not in _FAMILIES or sock.type != socket.SOCK_STREAM:
            raise ValueError(f"sockets: {sock!r} is neither a TCP nor a Unix stream socket")
        if not _listens(sock):
            raise ValueError(f"sockets: {sock!r} does not listen: call its bind() and listen() before")
    if len({sock.fileno() for sock in checked}) < len(checked):
        raise ValueError("sockets has one twice")
    return checked


def _listens(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:  # not every system tells: accept() will
        return True


def _socket_path(host: str | os.PathLike[str] | None) -> str | None:
    """Tell a Unix socket's path from a host name: no host has a slash."""
    if host is None or (isinstance(host, str) and "/" not in host):
        return None
    if not isinstance(host, str | os.PathLike):
        raise TypeError(f"host must be a str, a path or None, not {host!r}")
    return os.fspath(host)


async def listen(place: ListenAddress) -> list[socket.socket]:
    """Open what is not open yet. Cancelled or failed, nothing is left open, nor the sockets that were handed over.

    Returns:
        Non-blocking sockets that listen.

    Raises:
        OSError: it cannot listen there.
    """
    if place.sockets is not None:
        try:
            await trio.lowlevel.checkpoint()
        except BaseException:  # cancelled: they were handed over, nobody else would close them
            for sock in place.sockets:
                sock.close()
            raise
        opened = list(place.sockets)
    elif place.path is not None:
        await trio.lowlevel.checkpoint()
        opened = [_listen_on_path(place.path, place.socket_mode)]
    elif place.reuse_port:
        opened = await _listen_beside_others(place.host, place.port)
    else:
        listeners = await trio.open_tcp_listeners(place.port, host=place.host)
        opened = [socket.socket(fileno=listener.socket.detach()) for listener in listeners]
    for sock in opened:
        sock.setblocking(False)
    return opened


def _listen_on_path(path: str, mode: int | None) -> socket.socket:
    assert hasattr(socket, "AF_UNIX")  # as was checked
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    file = None
    try:
        _bind_to_path(sock, path)
        file = SocketFile(path)
        if mode is not None:  # nobody can connect before listen()
            os.chmod(path, mode)
        sock.listen(_BACKLOG)
    except BaseException:  # failed: nothing is left open
        sock.close()
        if file is not None:
            file.remove()
        raise
    return sock


def _bind_to_path(sock: socket.socket, path: str) -> None:
    """Bind, in place of a socket's file that a killed process has left behind."""
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
            raise
        os.unlink(path)
        sock.bind(path)


def _is_abandoned(path: str) -> bool:
    """Tell whether a file is a socket that nobody listens on."""
    assert hasattr(socket, "AF_UNIX")
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:  # its queue is full, it is of another kind, we have no right to it: somebody may listen
        return False
    return False


class SocketFile:
    """The file of a Unix socket that was opened here.

    Args:
        path: where it is.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            status = os.lstat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def remove(self) -> None:
        """Remove it, unless it is gone or another server's by now."""
        if self._identity is not None and self._look() == self._identity:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._identity = None


async def _listen_beside_others(host: str | None, port: int) -> list[socket.socket]:
    """Do what ``trio.open_tcp_listeners`` does, with SO_REUSEPORT, which must be set before bind()."""
    assert hasattr(socket, "SO_REUSEPORT")  # as was checked
    addresses = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, kind, protocol, _, address in addresses:
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:
                    raise
                missing = error  # no IPv6 here, say
                continue
            opened.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(_BACKLOG)
    except BaseException:  # failed: nothing is left open
        for sock in opened:
            sock.close()
        raise
    if missing is not None and not opened:
        raise missing
    return opened


def accept_nowait(listening: socket.socket) -> tuple[socket.socket, object] | None:
    """Accept a connection, None if there is none: another process was faster, or the caller has gone.

    Returns:
        Its socket, and the address of the caller.

    Raises:
        OSError: with an errno of BROKEN_LISTENER, the socket is no good; with another, the system is out of resources,
            say, and it may go better after a while.
    """
    for _ in range(_MOST_FAILED):
        try:
            return listening.accept()
        except OSError as error:
            if error.errno in _NOBODY_THERE:
                break
            if error.errno not in _CONNECTION_FAILED:
                raise
    return None


def loopback_ports(listening: Iterable[socket.socket]) -> frozenset[int]:
    """Give the TCP ports that sockets listen on if none of them can be reached from other machines; else none."""
    names = [sock.getsockname() for sock in listening if sock.family in (socket.AF_INET, socket.AF_INET6)]
    if all(ipaddress.ip_address(host.partition("%")[0]).is_loopback for host, *_ in names):
        return frozenset(port for _, port, *_ in names)
    return frozenset()


def systemd_sockets() -> list[socket.socket]:
    """Take the listening sockets that systemd hands to this process, for ``serve_websocket(sockets=...)``.

    They are taken once: the variables of the environment that tell of them are removed, so that processes that this
    one starts do not take them for theirs, and a second call returns none.

    Returns:
        The sockets in the order of the ``.socket`` unit; none if the process was not started by socket activation.

    Raises:
        ValueError: LISTEN_PID or LISTEN_FDS is no number, or a descriptor is no socket.

    Source: sd_listen_fds(3).
    """
    values = {name: os.environ.pop(name, None) for name in _SYSTEMD_VARIABLES}
    if values["LISTEN_PID"] is None or values["LISTEN_FDS"] is None:
        return []
    pid, count = (_positive_number(name, values[name]) for name in ("LISTEN_PID", "LISTEN_FDS"))
    if pid != os.getpid():  # meant for the process that started us
        return []
    descriptors = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + count)
    for descriptor in descriptors:
        if not _is_socket(descriptor):
            raise ValueError(f"LISTEN_FDS={count}: descriptor {descriptor} is no socket")
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]


def _positive_number(name: str, text: str | None) -> int:
    if text is None or not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ValueError(f"{name}={text!r}: it must be a whole number from 1 on")
    return int(text)


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False
