"""Every public name is where users find it, says so, and has its documentation and its types."""

from __future__ import annotations

import enum
import inspect
import subprocess
import sys
import types
import typing
from pathlib import Path

import pytest
import trio

import trio_ws
from trio_ws._client.connect import ClientKeywords
from trio_ws._server.server import ServerKeywords

# What the design promises for HTTP/1.1.
PROMISED = {
    *("open_websocket", "connect_websocket", "wrap_client_stream"),
    *("serve_websocket", "wrap_server_stream", "WebSocketServer", "WebSocketRequest", "SAME_ORIGIN"),
    *("HTTPRequest", "HTTPResponse"),
    *("WebSocket", "CloseInfo", "ReadyState", "Headers", "Statistics", "ping"),
    *("Handler", "HTTPHandler", "HeadersLike", "Message", "Opened", "WebSocketURL"),
    *("Dispatcher", "ConnectRequest", "Agent", "ProxyAgent", "EnvHttpProxyAgent"),
    *("Limits", "Compression", "Keepalive", "Instrument"),
    *("WebSocketError", "InvalidURL", "HandshakeError", "HandshakeRejected", "InvalidHandshake", "ProxyError"),
    *("HandshakeTimeout", "ProxyTimeout", "ConnectionClosed", "ConnectionClosedOK", "ConnectionClosedError"),
    *("ConnectionClosedLocally", "ProtocolError", "LocalProtocolError", "RemoteProtocolError", "MessageTooBig"),
}
SHARED_OPTIONS = ["compression", "limits", "keepalive", "connect_timeout", "close_timeout"]
CLIENT_OPTIONS = [
    *("dispatcher", "headers", "origin", "ssl_context", *SHARED_OPTIONS, "instruments", "follow_redirects"),
    *("connect_to", "server_hostname", "source_address", "user_agent_header"),
]
SERVER_ARGUMENTS = [
    *("handler", "host", "port", "ssl_context", "protocols", "origins", "http_handler"),
    *(*SHARED_OPTIONS, "max_connections", "instruments", "task_status"),
]
PUBLIC = {
    name: value
    for name, value in vars(trio_ws).items()
    if not name.startswith("_") and not isinstance(value, types.ModuleType)
}
ALIASES = {"HTTPHandler", "Handler", "HeadersLike", "Message"}
CALLABLE = {name: value for name, value in PUBLIC.items() if callable(value) and name not in ALIASES}

Function = types.FunctionType


def public_members() -> dict[str, Function]:
    """Every function that a user may call: those of the package, and the methods and properties of its classes."""
    found = {name: value for name, value in PUBLIC.items() if isinstance(value, Function)}
    for name, cls in PUBLIC.items():
        if not isinstance(cls, type):
            continue
        for owner in cls.__mro__:
            if not owner.__module__.startswith("trio_ws"):
                continue
            for member, value in vars(owner).items():
                function = value.fget if isinstance(value, property) else inspect.unwrap(value)
                function = function.__func__ if isinstance(function, classmethod | staticmethod) else function
                if isinstance(function, Function) and (not member.startswith("_") or member == "__init__"):
                    found[f"{name}.{member}"] = function
    return found


MEMBERS = public_members()


def test_nothing_that_was_promised_is_missing() -> None:
    assert PUBLIC.keys() >= PROMISED


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (
            trio_ws.WebSocket,
            "send send_nowait receive receive_nowait ping pong aclose wait_closed url protocol extensions ready_state "
            "buffered_amount http_version latency request_headers response_headers remote_address local_address "
            "close_info statistics __aiter__ __aenter__ __aexit__",
        ),
        (trio_ws.WebSocketRequest, "accept reject url target headers origin protocols http_version remote_address"),
        (trio_ws.WebSocketServer, "port connections aclose"),
        (trio_ws.Agent, "open __aenter__ __aexit__"),
        (trio_ws.Instrument, "websocket_open websocket_close websocket_ping websocket_pong proxy_connected"),
    ],
)
def test_no_promised_member_is_missing(owner: type, names: str) -> None:
    assert [name for name in names.split() if not hasattr(owner, name)] == []


def test_each_error_is_the_error_of_trio_that_it_means() -> None:
    assert issubclass(trio_ws.ConnectionClosedOK, trio.EndOfChannel)
    assert issubclass(trio_ws.ConnectionClosedError, trio.BrokenResourceError)
    assert issubclass(trio_ws.ConnectionClosedLocally, trio.ClosedResourceError)
    assert issubclass(trio_ws.HandshakeTimeout, trio.TooSlowError)
    assert issubclass(trio_ws.InvalidURL, ValueError)
    errors = [value for value in PUBLIC.values() if isinstance(value, type) and issubclass(value, Exception)]
    assert all(issubclass(error, trio_ws.WebSocketError) for error in errors)


def parameters(function: object) -> list[str]:
    assert callable(function)
    return list(inspect.signature(function).parameters)


def test_the_client_takes_what_was_promised() -> None:
    assert parameters(trio_ws.open_websocket) == ["url", "protocols", *CLIENT_OPTIONS]
    assert parameters(trio_ws.connect_websocket) == ["nursery", "url", "protocols", "options"]
    assert parameters(trio_ws.wrap_client_stream) == ["nursery", "stream", "url", "protocols", "options"]
    defaults = inspect.signature(trio_ws.open_websocket).parameters
    assert defaults["connect_timeout"].default == defaults["close_timeout"].default == 10.0
    assert defaults["compression"].default == trio_ws.Compression()
    assert defaults["limits"].default == trio_ws.Limits()
    assert defaults["keepalive"].default == trio_ws.Keepalive(interval=20.0, timeout=20.0)


def test_the_server_takes_what_was_promised() -> None:
    given = parameters(trio_ws.serve_websocket)
    assert [name for name in given if name in SERVER_ARGUMENTS] == SERVER_ARGUMENTS
    assert parameters(trio_ws.wrap_server_stream) == ["nursery", "stream", "handler", "options"]
    defaults = inspect.signature(trio_ws.serve_websocket).parameters
    assert defaults["origins"].default is trio_ws.SAME_ORIGIN
    assert defaults["max_connections"].default is None


@pytest.mark.parametrize(
    ("described", "function", "others"),
    [
        (ClientKeywords, trio_ws.open_websocket, {"url", "protocols"}),
        (
            ServerKeywords,
            trio_ws.serve_websocket,
            {"handler", "host", "port", "max_connections", "sockets", "reuse_port", "socket_mode", "task_status"},
        ),
    ],
)
def test_keyword_arguments_are_those_of_the_function_that_describes_them(
    described: type, function: object, others: set[str]
) -> None:
    assert set(described.__annotations__) == set(parameters(function)) - others


@pytest.mark.parametrize("name", CALLABLE)
def test_a_public_name_says_where_it_is_found(name: str) -> None:
    assert CALLABLE[name].__module__ == "trio_ws"
    assert getattr(trio_ws, CALLABLE[name].__name__) is CALLABLE[name]


def test_what_is_no_class_and_no_function_is_known() -> None:
    assert set(PUBLIC) - set(CALLABLE) == {"SAME_ORIGIN", *ALIASES}
    assert repr(trio_ws.SAME_ORIGIN) == "SAME_ORIGIN"
    assert isinstance(trio_ws.SAME_ORIGIN, enum.Enum)


@pytest.mark.parametrize("name", [*CALLABLE, *MEMBERS])
def test_a_public_name_is_documented(name: str) -> None:
    if name.endswith(".__init__"):
        return  # described with its class
    documented = MEMBERS.get(name) or CALLABLE[name]
    text = inspect.getdoc(documented) or inspect.getdoc(member_of(name)) or ""
    first = text.partition("\n")[0]
    assert len(first) > 10
    assert first.endswith((".", ":", "``"))


def member_of(name: str) -> object:
    """Find a method by its class, so that it inherits the documentation of the one that it overrides."""
    owner, _, member = name.partition(".")
    return getattr(PUBLIC[owner], member) if member else None


@pytest.mark.parametrize("name", MEMBERS)
def test_every_argument_and_result_has_a_type(name: str) -> None:
    function = MEMBERS[name]
    typed = inspect.signature(function)
    for parameter in typed.parameters.values():
        if parameter.name != "self":
            assert parameter.annotation is not inspect.Parameter.empty, parameter.name
            assert "Any" not in str(parameter.annotation).replace("AnyStr", "")
    assert typed.return_annotation is not inspect.Signature.empty
    assert "Any" not in str(typed.return_annotation)


@pytest.mark.parametrize("name", [name for name, value in PUBLIC.items() if hasattr(value, "__dataclass_fields__")])
def test_options_and_data_are_closed_records(name: str) -> None:
    record = PUBLIC[name]
    assert isinstance(record, type)
    assert "__slots__" in vars(record)
    if not name.endswith("Statistics"):  # they go on counting
        assert record.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_the_package_is_typed_and_has_a_version() -> None:
    assert (Path(trio_ws.__path__[0]) / "py.typed").exists()
    assert trio_ws.__version__.count(".") == 2


def test_importing_the_package_imports_no_test_tools_and_starts_nothing() -> None:
    program = "import sys, trio_ws; print(*sorted(m for m in ('pytest', 'trustme', 'asyncio') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert "pytest" not in done.stdout
    assert "trustme" not in done.stdout


def test_aliases_are_the_types_that_signatures_name() -> None:
    async def answer(request: trio_ws.HTTPRequest) -> trio_ws.HTTPResponse:
        return trio_ws.HTTPResponse(200)

    async def greet(request: trio_ws.WebSocketRequest) -> None:
        message: trio_ws.Message = bytearray(b"hello")
        async with request.accept() as ws:
            await ws.send(message)

    handler: trio_ws.Handler = greet
    http_handler: trio_ws.HTTPHandler = answer
    headers: trio_ws.HeadersLike = {"x": "y"}
    assert typing.get_args(trio_ws.Message) == (str, bytes, bytearray, memoryview)
    assert trio_ws.Headers(headers)["x"] == "y"
    hints = inspect.get_annotations(trio_ws.serve_websocket)
    assert (hints["handler"], hints["http_handler"]) == ("Handler", "HTTPHandler | None")
    assert inspect.iscoroutinefunction(handler)
    assert inspect.iscoroutinefunction(http_handler)


def test_protocols_of_the_signatures_can_be_resolved() -> None:
    assert typing.get_type_hints(trio_ws.CloseInfo) == {"code": int, "reason": str, "was_clean": bool}
