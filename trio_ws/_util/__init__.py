"""Small helpers for trio that know nothing of WebSockets."""
