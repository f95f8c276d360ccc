"""WebSocket for trio: client and server, structured concurrency all the way down."""

from ._client.agent import Agent as Agent
from ._client.agent import ConnectRequest as ConnectRequest
from ._client.agent import Dispatcher as Dispatcher
from ._client.connect import connect_websocket as connect_websocket
from ._client.connect import open_websocket as open_websocket
from ._client.connect import open_websocket_stream as open_websocket_stream
from ._client.connect import wrap_client_stream as wrap_client_stream
from ._client.proxy_agent import EnvHttpProxyAgent as EnvHttpProxyAgent
from ._client.proxy_agent import ProxyAgent as ProxyAgent
from ._client.reconnecting import Attempt as Attempt
from ._client.reconnecting import Backoff as Backoff
from ._client.reconnecting import is_transient as is_transient
from ._client.reconnecting import reconnecting as reconnecting
from ._close import CloseInfo as CloseInfo
from ._connection.statistics import Statistics as Statistics
from ._exceptions import ConnectionClosed as ConnectionClosed
from ._exceptions import ConnectionClosedError as ConnectionClosedError
from ._exceptions import ConnectionClosedLocally as ConnectionClosedLocally
from ._exceptions import ConnectionClosedOK as ConnectionClosedOK
from ._exceptions import HandshakeError as HandshakeError
from ._exceptions import HandshakeRejected as HandshakeRejected
from ._exceptions import HandshakeTimeout as HandshakeTimeout
from ._exceptions import InvalidHandshake as InvalidHandshake
from ._exceptions import InvalidURL as InvalidURL
from ._exceptions import LocalProtocolError as LocalProtocolError
from ._exceptions import MessageTooBig as MessageTooBig
from ._exceptions import ProtocolError as ProtocolError
from ._exceptions import ProxyError as ProxyError
from ._exceptions import ProxyTimeout as ProxyTimeout
from ._exceptions import RemoteProtocolError as RemoteProtocolError
from ._exceptions import WebSocketError as WebSocketError
from ._net.http2.frame_reader import Http2Statistics as Http2Statistics
from ._net.listen import systemd_sockets as systemd_sockets
from ._options import SAME_ORIGIN as SAME_ORIGIN
from ._options import Compression as Compression
from ._options import Keepalive as Keepalive
from ._options import Limits as Limits
from ._server.request import HTTPRequest as HTTPRequest
from ._server.request import HTTPResponse as HTTPResponse
from ._server.request import WebSocketRequest as WebSocketRequest
from ._server.server import WebSocketServer as WebSocketServer
from ._server.server import serve_websocket as serve_websocket
from ._server.server import wrap_server_stream as wrap_server_stream
from ._server.service import Handler as Handler
from ._server.service import HTTPHandler as HTTPHandler
from ._server.statistics import ServerStatistics as ServerStatistics
from ._util.nursery import BackgroundNursery as BackgroundNursery
from ._version import __version__ as __version__
from ._websocket.base import ReadyState as ReadyState
from ._websocket.broadcast import BroadcastResult as BroadcastResult
from ._websocket.broadcast import broadcast as broadcast
from ._websocket.events import CloseEvent as CloseEvent
from ._websocket.events import ErrorEvent as ErrorEvent
from ._websocket.events import MessageEvent as MessageEvent
from ._websocket.events import OpenEvent as OpenEvent
from ._websocket.group import Group as Group
from ._websocket.instrument import Instrument as Instrument
from ._websocket.message_streams import IncomingMessage as IncomingMessage
from ._websocket.message_streams import OutgoingMessage as OutgoingMessage
from ._websocket.start import Opened as Opened
from ._websocket.websocket import WebSocket as WebSocket
from ._websocket.websocket import ping as ping
from ._websocket.websocket_stream import WebSocketStream as WebSocketStream
from ._wire.handshake import HandshakeInfo as HandshakeInfo
from ._wire.headers import Headers as Headers
from ._wire.headers import HeadersLike as HeadersLike
from ._wire.observed import FrameInfo as FrameInfo
from ._wire.protocol import Message as Message
from ._wire.url import WebSocketURL as WebSocketURL

# So that tracebacks and documentation name things where users find them.
for _name, _value in list(globals().items()):
    if getattr(_value, "__module__", "").startswith("trio_ws._"):
        _value.__module__ = __name__
del _name, _value
