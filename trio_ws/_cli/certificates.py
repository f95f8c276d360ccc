"""Throw-away certificates, and the contexts of TLS that go with them."""

from __future__ import annotations

import os
import ssl
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .running import WRONG_USAGE, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trustme

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_WILDCARDS = ("", "0.0.0.0", "::")


def make_authority() -> trustme.CA:
    """Make a certificate authority that nobody knows.

    Raises:
        Failure: trustme is not installed.
    """
    try:
        import trustme
    except ImportError:
        raise Failure("a throw-away certificate needs trustme: pip install trustme") from None
    return trustme.CA()


def throwaway_context(authority: trustme.CA, host: str | None = None) -> ssl.SSLContext:
    """Make a server's context, with a certificate for the loopback names and for host."""
    names = [*LOOPBACK_NAMES]
    if host not in (None, *_WILDCARDS, *LOOPBACK_NAMES):
        names.append(host)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting_context(authority: trustme.CA) -> ssl.SSLContext:
    """Make a client's context that trusts the authority, and no others."""
    return ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())


def server_context(cert_file: str, key_file: str | None) -> ssl.SSLContext:
    """Make a server's context with a certificate of the user's.

    Raises:
        Failure: a file cannot be read, or holds something else.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load_certificate(context, cert_file, key_file)
    return context


def client_context(
    ca_file: str | None, cert_file: str | None = None, key_file: str | None = None, *, verifies: bool = True
) -> ssl.SSLContext:
    """Make a client's context.

    Args:
        ca_file: the authorities that are trusted, and no others; None: those of the system.
        cert_file: the client's certificate, if the server asks for one.
        key_file: its key, if that is in a file of its own.
        verifies: False: any certificate of the server's is taken.

    Raises:
        Failure: a file cannot be read, or holds something else.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise Failure(f"--ca-file: no certificate in {ca_file}: {explain(error)}", WRONG_USAGE) from None
    except OSError as error:
        raise Failure(f"--ca-file: cannot read {ca_file}: {error.strerror}", WRONG_USAGE) from None
    if not verifies:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert_file is not None:
        _load_certificate(context, cert_file, key_file)
    return context


def _load_certificate(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    def no_password() -> str:
        raise Failure(f"the key of {cert_file} is encrypted: give one that is not", WRONG_USAGE)

    try:
        context.load_cert_chain(cert_file, key_file, no_password)
    except ssl.SSLError as error:
        raise Failure(
            f"no certificate and its key in {_files(cert_file, key_file)}: {explain(error)}", WRONG_USAGE
        ) from None
    except OSError as error:
        raise Failure(f"cannot read {_files(cert_file, key_file)}: {error.strerror}", WRONG_USAGE) from None


@contextmanager
def written_to_file(authority: trustme.CA) -> Iterator[str]:
    """Have the authority's certificate in a file for as long as the block lasts; the value is its path."""
    descriptor, path = tempfile.mkstemp(prefix="trio-ws-ca-", suffix=".pem")
    try:
        with open(descriptor, "wb") as file:
            file.write(authority.cert_pem.bytes())
        yield path
    finally:
        os.unlink(path)


def explain(error: ssl.SSLError) -> str:
    """Say in words what OpenSSL says in capitals."""
    # Some errors have no reason: their text is "[SSL] PEM lib (_ssl.c:4000)".
    text = error.reason or error.args[1].partition(" (")[0].rpartition("] ")[2]
    return text.lower().replace("_", " ")


def _files(cert_file: str, key_file: str | None) -> str:
    return cert_file if key_file is None else f"{cert_file} and {key_file}"
