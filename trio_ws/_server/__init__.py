"""From a listening address to a handler: accepting, requests, answers."""
