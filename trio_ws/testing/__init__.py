"""Tools for testing applications that speak WebSocket: servers, connections in memory, streams that misbehave.

They need no event of the real world but loopback TCP, start no threads, and so run under trio's ``MockClock`` and
pytest-trio's ``autojump_clock``. The extra ``testing`` brings what they need.
"""

from ._faults import BreakAfter as BreakAfter
from ._faults import ChaosStream as ChaosStream
from ._faults import ChunkedStream as ChunkedStream
from ._faults import DelayedStream as DelayedStream
from ._faults import NoHalfClose as NoHalfClose
from ._faults import PartialWriteStream as PartialWriteStream
from ._faults import RecordingStream as RecordingStream
from ._faults import StallAfter as StallAfter
from ._faults import WrappedStream as WrappedStream
from ._link import Link as Link
from ._link import link_stream_pair as link_stream_pair
from ._memory import MemoryStream as MemoryStream
from ._memory import memory_stream_pair as memory_stream_pair
from ._pair import memory_websocket_pair as memory_websocket_pair
from ._server import LocalServer as LocalServer
from ._server import open_test_server as open_test_server

for _name, _value in list(globals().items()):
    if getattr(_value, "__module__", "").startswith(f"{__name__}._"):
        _value.__module__ = __name__
del _name, _value
