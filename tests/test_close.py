"""Close codes: who may send which, and what a caller may pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws import CloseInfo
from trio_ws._close import check_close, close_body, code_name, is_sendable, truncate_reason

SENDABLE = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}


def test_which_codes_may_be_sent() -> None:
    assert {code for code in range(70000) if is_sendable(code)} == SENDABLE


def test_which_codes_an_application_may_close_with() -> None:
    def allowed(code: int, *, whatwg: bool = False) -> bool:
        try:
            check_close(code, "", whatwg=whatwg)
        except ValueError:
            return False
        return True

    assert {code for code in range(-1, 70000) if allowed(code)} == SENDABLE
    assert {code for code in range(-1, 70000) if allowed(code, whatwg=True)} == {1000, *range(3000, 5000)}


@pytest.mark.parametrize(
    ("whatwg", "rule"), [(False, "1000 to 1003, 1007 to 1014 or 3000 to 4999"), (True, "1000 or 3000 to 4999")]
)
def test_a_code_that_is_refused_is_named_with_its_rule(whatwg: bool, rule: str) -> None:
    with pytest.raises(ValueError, match=f"^close_code 1006 is not allowed: it must be {rule}$"):
        check_close(1006, "", name="close_code", whatwg=whatwg)
    with pytest.raises(TypeError, match=r"^close_code must be an int, not str$"):
        check_close("1000", "", name="close_code", whatwg=whatwg)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["1000", 1000.0, True, b"1000"])
def test_a_code_is_an_int(code: object) -> None:
    with pytest.raises(TypeError, match="code must be an int"):
        check_close(code, "")  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", [b"bye", None, 5, 3.5, ["x"]])
def test_a_reason_is_a_str(reason: object) -> None:
    with pytest.raises(TypeError, match="reason must be a str"):
        check_close(1000, reason)  # type: ignore[arg-type]


def test_a_reason_fits_into_the_frame() -> None:
    check_close(1000, "x" * 123)
    check_close(None, "")
    with pytest.raises(ValueError, match="124 bytes of UTF-8"):
        check_close(1000, "\u00e9" * 62)
    with pytest.raises(ValueError, match="needs a code"):
        check_close(None, "why")
    with pytest.raises(ValueError, match="cannot be encoded"):
        check_close(1000, "\ud800")


@given(reason=st.text(max_size=200))
def test_a_reason_of_ours_is_cut_to_the_longest_start_that_fits(reason: str) -> None:
    cut = truncate_reason(reason)
    assert reason.startswith(cut)
    check_close(1000, cut)
    assert cut == reason or len(reason[: len(cut) + 1].encode()) > 123


def test_a_reason_of_ours_is_never_cut_inside_a_character() -> None:
    assert truncate_reason("\u00e9" * 62) == "\u00e9" * 61
    assert truncate_reason("short") == "short"


def test_a_reason_of_ours_that_is_no_unicode_is_sent_all_the_same() -> None:
    assert truncate_reason("a \ud800 surrogate") == "a ? surrogate"


@pytest.mark.parametrize(("code", "reason", "body"), [(None, "", ""), (1000, "", "03e8"), (4000, "\u00e9", "0fa0c3a9")])
def test_the_body_of_a_close_frame(code: int | None, reason: str, body: str) -> None:
    assert close_body(code, reason) == bytes.fromhex(body)


NAMES = {
    1000: "OK",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    1005: "no code",
    1006: "connection lost",
    1007: "invalid data",
    1008: "policy violation",
    1009: "message too big",
    1010: "extension missing",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
    1014: "bad gateway",
}


def test_codes_have_names() -> None:
    names = dict.fromkeys(range(5001), "unknown")
    names |= NAMES | dict.fromkeys(range(3000, 4000), "registered") | dict.fromkeys(range(4000, 5000), "private use")
    assert {code: code_name(code) for code in range(5001)} == names


def test_a_close_info_reads_well() -> None:
    assert str(CloseInfo(1001)) == "1001 (going away)"
    assert str(CloseInfo(4000, "bye")) == "4000 (private use) 'bye'"
    assert CloseInfo() == CloseInfo(1006, "", was_clean=False)


def test_a_close_info_is_a_value() -> None:
    info = CloseInfo(4000, "bye")
    assert len({info, CloseInfo(4000, "bye"), CloseInfo(4000)}) == 2
    with pytest.raises(AttributeError):
        info.code = 1000  # type: ignore[misc]
    assert not hasattr(info, "__dict__")
