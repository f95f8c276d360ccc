"""What the pages say in tables, against what is so."""

from __future__ import annotations

import re
import ssl
import types
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import trio

import trio_ws
from trio_ws._close import _NAMES, code_name, is_sendable
from trio_ws.testing import _faults

ROOT = Path(__file__).parents[2]
TOPICS = ROOT / "docs" / "topics"


def rows(page: str, heading: str) -> Iterator[list[str]]:
    """Give the rows of the first table after a heading."""
    text = (ROOT / "docs" / page).read_text().partition(f"## {heading}\n")[2]
    assert text, heading
    table = re.search(r"^\|.*\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table is not None
    for line in table[1].splitlines():
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_limits_are_all_there_with_their_defaults() -> None:
    told = {name.strip("`"): default for name, default, _ in rows("topics/security.md", "Limits")}
    assert told == {field.name: repr(field.default) for field in fields(trio_ws.Limits)}
    assert trio_ws.Limits().fragments == 4096


@pytest.mark.parametrize(
    ("attack", "test"),
    [
        (attack, test.strip("`"))
        for attack, _, test in rows("topics/security.md", "Attacks, and the tests that show what becomes of them")
    ],
)
def test_each_attack_has_its_test(attack: str, test: str) -> None:
    path, name = test.split("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), attack


def test_the_close_codes_are_all_there() -> None:
    told = {int(code): (name, travels == "yes") for code, name, travels in rows("topics/closing.md", "Codes")}
    assert told == {code: (code_name(code), is_sendable(code)) for code in _NAMES}


def test_the_faults_are_all_there() -> None:
    told = {re.findall(r"\w+", name)[0] for name, _ in rows("howto/testing.md", "Faults")}
    made = {
        name
        for name, value in vars(_faults).items()
        if isinstance(value, type) and value.__module__ == "trio_ws.testing"
    }
    assert told == made - {"WrappedStream"}


def test_every_public_name_is_in_the_reference() -> None:
    reference = "\n".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.rst"))
    told = set(re.findall(r"^\.\. auto\w+:: trio_ws\.(\w+)", reference, re.MULTILINE))
    kinds = (type, types.FunctionType)
    public = {name for name, value in vars(trio_ws).items() if not name.startswith("_") and isinstance(value, kinds)}
    assert public - told == set()


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


CLOSED = trio_ws.ConnectionClosedError
ERRORS = {
    "`InvalidURL`": trio_ws.InvalidURL("no"),
    "`OSError`": OSError("no"),
    "`ssl.SSLCertVerificationError`": ssl.SSLCertVerificationError("no"),
    "`ssl.SSLError`": tls_error("TLSV1_ALERT_PROTOCOL_VERSION"),
    "`ssl.SSLEOFError`": ssl.SSLEOFError("no"),
    "`HandshakeRejected`": trio_ws.HandshakeRejected(403, {}),
    "`HandshakeRejected` with 408, 425, 429 or 500 and above": trio_ws.HandshakeRejected(503, {}),
    "`InvalidHandshake`": trio_ws.InvalidHandshake("no"),
    "`InvalidHandshake` with `no_answer`": trio_ws.InvalidHandshake("no", no_answer=True),
    "`ProxyError`": trio_ws.ProxyError("no"),
    "`ProxyError` with `no_answer`, or with 408, 425, 429 or 500 and above": trio_ws.ProxyError("no", no_answer=True),
    "`HandshakeTimeout`, `ProxyTimeout`": trio_ws.ProxyTimeout("no"),
    "`ConnectionClosedOK`": trio_ws.ConnectionClosedOK(trio_ws.CloseInfo(1000), None),
    "`ConnectionClosedError`, lost": CLOSED(None, None),
    "`ConnectionClosedError`, failed here": CLOSED(None, trio_ws.CloseInfo(1002)),
    "`ConnectionClosedError`, failed here with 1009": CLOSED(None, trio_ws.CloseInfo(1009)),
    "`ConnectionClosedError` with another code": CLOSED(trio_ws.CloseInfo(1008), None),
    "`ConnectionClosedLocally`": trio_ws.ConnectionClosedLocally(None, trio_ws.CloseInfo(1000)),
    "`LocalProtocolError`": trio_ws.LocalProtocolError("no"),
    "`trio.WouldBlock`": trio.WouldBlock(),
}


def test_the_errors_are_what_the_page_says() -> None:
    told = {
        error: (also.strip().strip("`"), again.startswith("yes"))
        for error, again, _, _, also in rows("topics/errors.md", "Which comes when, and what to do")
    }
    assert told.keys() == ERRORS.keys()
    for name, (also, again) in told.items():
        error = ERRORS[name]
        assert type(error).__name__ in name
        assert trio_ws.is_transient(error) == again, name
        assert also == "-" or also.rpartition(".")[2] in {base.__name__ for base in type(error).__mro__}, name
