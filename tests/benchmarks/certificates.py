"""A certificate for one run, and the contexts of both sides."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


def make_certificate(folder: Path) -> Path:
    """Write a certificate for localhost with its key, and beside it its authority's; return the first's path."""
    authority = trustme.CA()
    path = folder / "certificate.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    return path


def context_for(role: str, certificate: Path) -> ssl.SSLContext:
    """Make the context of one side."""
    if role == "server":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    else:
        context = ssl.create_default_context(cafile=certificate.with_name("authority.pem"))
    return context
