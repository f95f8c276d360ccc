"""The HTTP/2 library, and what of it is used: the only module that knows h2, hpack and hyperframe.

It keeps what is hard: header compression, settings, the states of streams. DATA, WINDOW_UPDATE and GOAWAY are ours, and
the library never sees them:

* DATA and WINDOW_UPDATE are most of all frames, their windows are a policy of ours, and what the library does about
  those that come late or break a rule (it resets streams as the peer likes) is an attack of its own (CVE-2025-8671).
  Only that a stream has ended is told it, by an empty frame.
* After a GOAWAY its state machine takes no frame at all, in either direction, though RFC 9113 §6.8 lets the streams
  that are open go on (python-hyper/h2 issue 1181). So GOAWAY is read and written beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import hpack
import hyperframe.exceptions
import hyperframe.frame
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RemoteSettingsChanged
from h2.exceptions import NoAvailableStreamIDError, ProtocolError
from h2.settings import SettingCodes, Settings

from .frame_reader import END_STREAM, PREFACE, ErrorCode, Http2ConnectionError, Kind, frame_header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..._options import Limits

Fields = list[tuple[str, str]]

LAST_STREAM = 2**31 - 1


@dataclass(frozen=True, slots=True)
class NewSettings:
    """What a SETTINGS frame of the peer's has changed.

    Attributes:
        window: INITIAL_WINDOW_SIZE, None if it stays.
        takes_back_connect: ENABLE_CONNECT_PROTOCOL was on before, and is off.
    """

    window: int | None
    takes_back_connect: bool


class HeaderDecoder(hpack.Decoder):
    """Decompresses headers, and shows the library only what it needs: it would end the connection for the rest.

    Attributes:
        fields: the headers decoded last; None if they were larger than allowed.
        ends_stream: whether the next header block ends its stream.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(max_header_list_size=2 * limits.max_head_size)
        self._limits = limits
        self.fields: Fields | None = None
        self.ends_stream = False

    def decode(self, data: bytes, raw: bool = False) -> Iterable[hpack.HeaderTuple]:
        try:
            headers = list(super().decode(data, raw=True))
        except hpack.OversizedHeaderListError:
            raise  # which the library takes for an attack
        except hpack.HPACKError as error:  # RFC 9113 §4.3: the library would say PROTOCOL_ERROR
            raise Http2ConnectionError(ErrorCode.COMPRESSION_ERROR, f"{type(error).__name__}: {error}"[:256]) from None
        size = sum(len(name) + len(value) + 32 for name, value in headers)  # RFC 9113 §6.5.2
        self.fields = None
        if size <= self._limits.max_head_size and len(headers) <= self._limits.max_headers:
            self.fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        # It tells interim answers by their status, and one that ends its stream would be an error of the connection's,
        # as a wrong content-length would.
        return [] if self.ends_stream else [field for field in headers if field[0] == b":status"]


class H2Adapter:
    """One connection of the library's.

    Args:
        limits: what is told the peer.
        is_client: which side this is.
    """

    __slots__ = ("_decoder", "_h2")

    def __init__(self, limits: Limits, *, is_client: bool) -> None:
        self._decoder = HeaderDecoder(limits)
        # Each header block is checked where it is answered: a wrong one is its stream's own affair.
        config = H2Configuration(client_side=is_client, validate_inbound_headers=False, normalize_inbound_headers=False)
        self._h2 = H2Connection(config)
        self._h2.decoder = self._decoder
        values = {
            SettingCodes.INITIAL_WINDOW_SIZE: limits.h2_stream_window,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.max_head_size,
        }
        if is_client:
            values[SettingCodes.ENABLE_PUSH] = 0
        else:
            values[SettingCodes.MAX_CONCURRENT_STREAMS] = limits.h2_max_streams
            values[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1  # RFC 8441 §3
        self._h2.local_settings = Settings(client=is_client, initial_values=values)
        self._h2.initiate_connection()
        # The limit that was told is kept by refusing one stream; the library would end the connection.
        self._h2.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = LAST_STREAM
        self._h2.local_settings.acknowledge()
        if not is_client:
            self._h2.receive_data(PREFACE)  # which the frame reader has checked

    # ---- receiving ----

    def receive(self, wire: bytes) -> NewSettings | None:
        """Take a frame or a header block of the peer's.

        Raises:
            Http2ConnectionError: it breaks a rule.
        """
        self._decoder.ends_stream = wire[3] == Kind.HEADERS and bool(wire[4] & END_STREAM)  # RFC 9113 §4.1
        try:
            events = self._h2.receive_data(wire)
        except ProtocolError as error:
            self._h2.clear_outbound_data_buffer()  # its GOAWAY; ours follows
            raise Http2ConnectionError(int(error.error_code), f"{type(error).__name__}: {error}"[:256]) from None
        changed = next((event.changed_settings for event in events if isinstance(event, RemoteSettingsChanged)), None)
        if changed is None:
            return None
        window = changed.get(SettingCodes.INITIAL_WINDOW_SIZE)
        connect = changed.get(SettingCodes.ENABLE_CONNECT_PROTOCOL)
        return NewSettings(
            window=window.new_value if window is not None else None,
            takes_back_connect=connect is not None and bool(connect.original_value) and not connect.new_value,
        )

    def receive_end(self, stream_id: int) -> None:
        """Take the end of a stream, without the bytes before it."""
        self.receive(frame_header(0, Kind.DATA, END_STREAM, stream_id))

    def decode(self, wire: bytes) -> None:
        """Decompress a header block that means nothing: the compression has a memory, and nothing may be skipped.

        Raises:
            Http2ConnectionError: it is malformed.
        """
        block, rest = bytearray(), memoryview(wire)
        try:
            while rest:
                part, length = hyperframe.frame.Frame.parse_frame_header(rest[:9])
                part.parse_body(rest[9 : 9 + length])
                block += part.data  # type: ignore[attr-defined]  # HEADERS and CONTINUATION have it
                rest = rest[9 + length :]
            self._decoder.decode(bytes(block))
        except hpack.OversizedHeaderListError as error:
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, str(error)[:256]) from None
        except hyperframe.exceptions.InvalidPaddingError:  # RFC 9113 §6.2
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a frame is shorter than its padding") from None
        except hyperframe.exceptions.HyperframeError as error:  # §4.2
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, str(error)[:256]) from None

    @property
    def fields(self) -> Fields | None:
        """The headers that came last; None if they were larger than allowed."""
        return self._decoder.fields

    # ---- how it stands ----

    @property
    def newest_of_peer(self) -> int:
        """The highest number of a stream that the peer has opened."""
        return self._h2.highest_inbound_stream_id

    def was_opened(self, stream_id: int) -> bool:
        """Whether the side whose number it is has ever opened a stream of this number, or a later one."""
        is_ours = stream_id % 2 == self._h2.config.client_side  # RFC 9113 §5.1.1
        highest = self._h2.highest_outbound_stream_id if is_ours else self._h2.highest_inbound_stream_id
        return 0 < stream_id <= highest

    @property
    def max_streams(self) -> int:
        """How many streams the peer lets us open."""
        return self._h2.remote_settings.max_concurrent_streams

    @property
    def extended_connect(self) -> bool:
        """Whether the peer takes extended CONNECT."""
        return bool(self._h2.remote_settings.enable_connect_protocol)

    @property
    def next_stream(self) -> int | None:
        """The number of the next stream of ours, None when there are no more."""
        try:
            return self._h2.get_next_available_stream_id()
        except NoAvailableStreamIDError:
            return None

    # ---- sending: each gives the bytes ----

    def take(self) -> bytes:
        """Give what it has to send."""
        return self._h2.data_to_send()

    def send_headers(self, stream_id: int, fields: Fields) -> bytes:
        """Send a header block."""
        self._h2.send_headers(stream_id, fields)
        return self._h2.data_to_send()

    def send_end(self, stream_id: int) -> bytes:
        """Send END_STREAM."""
        self._h2.end_stream(stream_id)
        return self._h2.data_to_send()

    def send_reset(self, stream_id: int, code: int) -> bytes:
        """Send RST_STREAM."""
        self._h2.reset_stream(stream_id, code)
        return self._h2.data_to_send()

    def send_ping(self) -> bytes:
        """Send a PING."""
        self._h2.ping(b"trio_ws?")
        return self._h2.data_to_send()
