"""From a URL or a socket to a transport: TCP, TLS, HTTP. It knows HTTP, and no frame."""
