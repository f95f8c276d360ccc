"""trio-websocket's names over the objects of trio_ws: for code that was written for trio-websocket.

Import this module in its place: ``from trio_ws.compat import trio_websocket``. For a library that you cannot change,
call ``install`` before it is imported. ``docs/howto/migrate-from-trio-websocket.md`` tells what differs.
"""

import sys

from ._client import connect_websocket as connect_websocket
from ._client import connect_websocket_url as connect_websocket_url
from ._client import open_websocket as open_websocket
from ._client import open_websocket_url as open_websocket_url
from ._client import wrap_client_stream as wrap_client_stream
from ._connection import WebSocketConnection as WebSocketConnection
from ._endpoint import Endpoint as Endpoint
from ._errors import CloseReason as CloseReason
from ._errors import ConnectionClosed as ConnectionClosed
from ._errors import ConnectionRejected as ConnectionRejected
from ._errors import ConnectionTimeout as ConnectionTimeout
from ._errors import DisconnectionTimeout as DisconnectionTimeout
from ._errors import HandshakeError as HandshakeError
from ._server import WebSocketRequest as WebSocketRequest
from ._server import WebSocketServer as WebSocketServer
from ._server import serve_websocket as serve_websocket
from ._server import wrap_server_stream as wrap_server_stream

__version__ = "0.12.2"  # of trio-websocket: whose names these are

for _name, _value in list(globals().items()):
    if getattr(_value, "__module__", "").startswith(f"{__name__}._"):
        _value.__module__ = __name__
del _name, _value


def install() -> None:
    """Have ``import trio_websocket`` give this module, in this process and from now on.

    Call it before anything imports trio-websocket, which need not be installed. Harmless when repeated.

    Raises:
        RuntimeError: the real trio-websocket was imported before; whoever did it would go on with it.
    """
    this = sys.modules[__name__]
    if sys.modules.setdefault("trio_websocket", this) is not this:
        raise RuntimeError("trio_websocket was imported before: install() must come first")
