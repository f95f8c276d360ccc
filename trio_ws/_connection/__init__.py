"""One protocol on one transport: buffers, closing, keepalive, pings. Knows no HTTP."""
