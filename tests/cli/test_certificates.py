"""Contexts of TLS: throw-away certificates that work, and files that do not in one line each."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from trio_ws._cli.certificates import (
    client_context,
    explain,
    make_authority,
    server_context,
    throwaway_context,
    trusting_context,
    written_to_file,
)
from trio_ws._cli.running import Failure

if TYPE_CHECKING:
    from collections.abc import Callable


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str | None:
    """Do a TLS handshake in memory; return the version."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    unfinished = list(sides)
    while unfinished:
        for side in tuple(unfinished):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            unfinished.remove(side)
    return sides[0].version()


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (None, "localhost"),
        ("", "::1"),
        ("0.0.0.0", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("a.example", "a.example"),
        ("a.example", "localhost"),
    ],
)
def test_a_throwaway_certificate_is_for_loopback_and_the_host(host: str | None, name: str) -> None:
    authority = make_authority()
    assert shake_hands(throwaway_context(authority, host), trusting_context(authority), name) == "TLSv1.3"


def test_a_throwaway_certificate_is_for_nobody_else() -> None:
    authority = make_authority()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(throwaway_context(authority), trusting_context(authority), "a.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(throwaway_context(authority), trusting_context(make_authority()), "localhost")


def test_the_authority_in_a_file_is_enough_to_connect_and_goes_with_the_block() -> None:
    authority = make_authority()
    with written_to_file(authority) as path:
        assert "PRIVATE" not in Path(path).read_text()
        assert shake_hands(throwaway_context(authority), client_context(path), "localhost") == "TLSv1.3"
    assert not Path(path).exists()


@pytest.mark.parametrize("separate", [True, False])
def test_a_certificate_of_the_users(tmp_path: Path, separate: bool) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("a.example")
    (tmp_path / "chain").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    (tmp_path / "key").write_bytes(certificate.private_key_pem.bytes())
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both"))
    if separate:
        context = server_context(str(tmp_path / "chain"), str(tmp_path / "key"))
    else:
        context = server_context(str(tmp_path / "both"), None)
    assert shake_hands(context, trusting_context(authority), "a.example") == "TLSv1.3"


def test_without_trustme_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(Failure, match=r"^a throw-away certificate needs trustme: pip install trustme$"):
        make_authority()


def test_files_that_do_not_hold_a_certificate(tmp_path: Path) -> None:
    empty, missing = tmp_path / "empty", tmp_path / "missing"
    empty.touch()
    calls: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: client_context(str(empty)), f"--ca-file: no certificate in {empty}: "),
        (lambda: client_context(str(missing)), f"--ca-file: cannot read {missing}: No such file or directory"),
        (lambda: server_context(str(empty), None), f"no certificate and its key in {empty}: "),
        (lambda: server_context(str(missing), None), f"cannot read {missing}: No such file or directory"),
        (lambda: server_context(str(empty), str(missing)), f"no certificate and its key in {empty} and {missing}: "),
    )
    for call, line in calls:
        with pytest.raises(Failure) as caught:
            call()
        assert str(caught.value).startswith(line)
        assert caught.value.status == 2


def test_an_encrypted_key_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    certificate = trustme.CA().issue_cert("a.example")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    path = tmp_path / "both"
    path.write_bytes(encrypted + certificate.cert_chain_pems[0].bytes())
    with pytest.raises(Failure, match="is encrypted: give one that is not") as caught:
        server_context(str(path), None)
    assert caught.value.status == 2


def test_tls_errors_are_told_in_words() -> None:
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1000)")
    error.reason = None  # type: ignore[assignment]
    assert explain(error) == "wrong version number"
    error.reason = "UNKNOWN_PROTOCOL"
    assert explain(error) == "unknown protocol"
