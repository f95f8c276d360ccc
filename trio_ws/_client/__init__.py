"""From a URL to an open WebSocket: dispatchers, pooling, redirects, proxies, reconnecting."""
