"""Bytes to meaning and back: URLs, headers, handshakes, frames, messages. No await, no trio, no clock, no socket."""
