"""Header fields: the mapping, what a caller may send, and the grammar of lists and extensions."""

from __future__ import annotations

import ast
import contextlib
import inspect
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_ws._wire import headers as module
from trio_ws._wire.headers import (
    Headers,
    HeadersLike,
    check_header,
    has_token,
    is_token,
    parse_extensions,
    parse_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from _typeshed import TraceFunction

FIELDS = [("Host", "a"), ("X-Many", "1"), ("cookie", "c=1"), ("x-MANY", "2"), ("Cookie", "d=2"), ("X-Many", "3")]


def test_a_name_is_found_in_any_case_and_its_values_are_joined() -> None:
    headers = Headers(FIELDS)
    assert headers["host"] == headers["HOST"] == "a"
    assert headers["X-Many"] == "1, 2, 3"
    assert headers["COOKIE"] == "c=1; d=2"
    assert headers.get("X-None") is None
    with pytest.raises(KeyError):
        headers["X-None"]


def test_get_all_keeps_the_values_of_a_name_apart() -> None:
    headers = Headers(FIELDS)
    assert headers.get_all("x-many") == ["1", "2", "3"]
    assert headers.get_all("HOST") == ["a"]
    assert headers.get_all("x-none") == []


def test_iteration_gives_each_name_once_as_it_was_spelled_first() -> None:
    headers = Headers(FIELDS)
    assert list(headers) == ["Host", "X-Many", "cookie"]
    assert len(headers) == 3
    assert dict(headers) == {"Host": "a", "X-Many": "1, 2, 3", "cookie": "c=1; d=2"}


def test_raw_keeps_order_spelling_and_duplicates() -> None:
    headers = Headers(FIELDS)
    assert headers.raw == tuple(FIELDS)
    assert Headers(headers).raw == tuple(FIELDS)
    assert Headers().raw == ()
    assert Headers({"A": "1", "B": "2"}).raw == (("A", "1"), ("B", "2"))
    assert Headers(iter([("A", "1")])).raw == (("A", "1"),)


def test_contains_takes_any_case_and_any_object() -> None:
    headers = Headers(FIELDS)
    assert "HOST" in headers
    assert "X-None" not in headers
    assert not headers.__contains__(1)


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        (Headers([("HOST", "a"), ("X", "1, 2")]), True),
        (Headers([("x", "1"), ("host", "a"), ("X", "2")]), True),
        ({"host": "a", "X": "1, 2"}, True),
        (Headers([("host", "A"), ("x", "1, 2")]), False),
        (Headers([("host", "a"), ("x", "2"), ("x", "1")]), False),
        ({"host": "a"}, False),
        ({"host": "a", "X": "1, 2", "x": "1, 2"}, False),
        ({"host": "a", "x": "1, 2", 3: "4"}, False),
        ([("host", "a"), ("x", "1, 2")], False),
    ],
)
def test_equality_is_of_names_in_any_case_and_joined_values(other: object, equal: bool) -> None:
    headers = Headers([("Host", "a"), ("X", "1"), ("x", "2")])
    assert (headers == other) is equal
    assert (headers != other) is not equal


def test_headers_are_immutable() -> None:
    headers = Headers(FIELDS)
    with pytest.raises(TypeError, match="does not support item assignment"):
        headers["Host"] = "b"  # type: ignore[index]
    with pytest.raises(AttributeError):
        headers.more = 1  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        headers.raw = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    "fields",
    [
        (),
        [("Host", "a"), ("Cookie", "b=c"), ("cookie", "d=e"), ("X", "")],
        [("Host", "a\nX: b")],  # what no message can have, but a Headers holds
        [("", "")],
    ],
)
def test_packing_changes_nothing_that_shows(fields: HeadersLike) -> None:
    headers, twin = Headers(fields), Headers(fields)
    for _ in range(2):
        headers.pack()
        headers.pack()
        assert headers.raw == twin.raw
        headers.pack()
        assert headers == twin
        assert list(headers.items()) == list(twin.items())
        headers.pack()
        assert headers.get_all("cookie") == twin.get_all("cookie")
        assert repr(headers) == repr(twin)


def test_repr_hides_what_is_secret() -> None:
    secrets = ["Authorization", "PROXY-Authorization", "cookie", "Set-Cookie"]
    headers = Headers([("Host", "a"), *((name, "hush") for name in secrets)])
    assert repr(headers) == (
        "Headers([('Host', 'a'), ('Authorization', '<hidden>'), ('PROXY-Authorization', '<hidden>'),"
        " ('cookie', '<hidden>'), ('Set-Cookie', '<hidden>')])"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("ab", "headers must be a mapping or an iterable of pairs, not str"),
        (b"ab", "headers must be a mapping or an iterable of pairs, not bytes"),
        (7, "headers must be a mapping or an iterable of pairs, not int"),
        (None, "headers must be a mapping or an iterable of pairs, not NoneType"),
        (["ab"], "headers must hold pairs of name and value, not str"),
        ([("a",)], "headers must hold pairs of name and value, not tuple"),
        ([("a", "b", "c")], "headers must hold pairs of name and value, not tuple"),
        ({"X-Number": 1}, "header 'X-Number' must have a str for its name and its value"),
        ([(b"X-Bytes", "1")], "header b'X-Bytes' must have a str for its name and its value"),
    ],
)
def test_what_is_no_headers_is_a_type_error(fields: HeadersLike, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        Headers(fields)
    assert str(caught.value) == message


def test_headers_hold_whatever_a_peer_sent() -> None:
    assert Headers([("", "\x00"), ("é", "\xff\n")]).raw == (("", "\x00"), ("é", "\xff\n"))


@pytest.mark.parametrize("text", ["a", "Sec-WebSocket-Key", "!#$%&'*+-.^_`|~09azAZ"])
def test_a_token_is_what_the_grammar_says(text: str) -> None:
    assert is_token(text)


@pytest.mark.parametrize(
    "text", ["", *(f"a{character}b" for character in ' \t"(),/:;<=>?@[\\]{}\0\r\n\x7f\x80é\uff11')]
)
def test_what_has_a_separator_is_no_token(text: str) -> None:
    assert not is_token(text)


@pytest.mark.parametrize("value", ["", "a", "a b\tc", 'every "sort" of (thing), {even} \\', "\xa0\xff", "~!"])
def test_a_good_header_passes(value: str) -> None:
    check_header("X-Good", value)


INJECTIONS = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    "\x0b",
    "\x0c",
    "\x1b",
    "\x1f",
    "\x7f",
    "\x80",
    "\x85",
    "\x9f",
    "Ā",
    "\u2028",
    "😀",
]


@pytest.mark.parametrize("character", INJECTIONS)
def test_a_value_cannot_inject_a_header(character: str) -> None:
    with pytest.raises(ValueError, match=r"^the value of header 'X-Bad' must not contain '") as caught:
        check_header("X-Bad", f"secret{character}Evil: 1")
    assert repr(character[0]) in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("value", [" a", "a ", "\ta", "a\t", " "])
def test_a_value_has_no_white_space_at_its_ends(value: str) -> None:
    with pytest.raises(ValueError, match=r"^the value of header 'X-Bad' must not begin or end with white space"):
        check_header("X-Bad", value)


@pytest.mark.parametrize("name", ["", ":path", "X Bad", "X:", "X\r\nY", "Ünicode"])
def test_a_name_must_be_a_token(name: str) -> None:
    with pytest.raises(ValueError, match="is not a token") as caught:
        check_header(name, "1")
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        ("", []),
        (" \t", []),
        (",, ,", []),
        ("XaX", ["XaX"]),
        ("a", ["a"]),
        (" a ,\tb,,c d ,", ["a", "b", "c d"]),
        ("a\xa0,b", ["a\xa0", "b"]),
    ],
)
def test_a_list_is_split_at_commas_and_loses_its_empty_elements(value: str, elements: list[str]) -> None:
    assert parse_list(value) == elements


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("upgrade", True),
        ("keep-alive, Upgrade", True),
        ("UPGRADE ,close", True),
        ("", False),
        ("upgrades", False),
        ("keep-alive upgrade", False),
        ("no-upgrade,close", False),
    ],
)
def test_a_token_is_found_in_a_list_in_any_case(value: str, found: bool) -> None:
    assert has_token(value, "Upgrade") is found


@pytest.mark.parametrize(
    ("value", "extensions"),
    [
        ("", []),
        (" , ,", []),
        ("foo", [("foo", [])]),
        ("foo, bar; baz=2", [("foo", []), ("bar", [("baz", "2")])]),
        ("a;b ; c = d\t;e", [("a", [("b", None), ("c", "d"), ("e", None)])]),
        ('a; b="10"', [("a", [("b", "10")])]),
        ('a; b="1\\0" , c', [("a", [("b", "10")]), ("c", [])]),
        (",a,,a;b,", [("a", []), ("a", [("b", None)])]),
        ("a;b;b=1;b", [("a", [("b", None), ("b", "1"), ("b", None)])]),
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate",
            [
                ("permessage-deflate", [("client_max_window_bits", None), ("server_max_window_bits", "10")]),
                ("permessage-deflate", []),
            ],
        ),
    ],
)
def test_extensions_are_parsed(value: str, extensions: list[tuple[str, list[tuple[str, str | None]]]]) -> None:
    assert parse_extensions(value) == extensions


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (";", "expected a token at character 0"),
        ("a;", "expected a token at character 2"),
        ("a; ,b", "expected a token at character 3"),
        ("a b", "expected a comma, a semicolon or the end at character 2"),
        ("a=1", "expected a comma, a semicolon or the end at character 1"),
        ("a;b=", "expected a token at character 4"),
        ("a;b=,c", "expected a token at character 4"),
        ("a;=1", "expected a token at character 2"),
        ("a;b==1", "expected a token at character 4"),
        ("a;b=1 2", "expected a comma, a semicolon or the end at character 6"),
        ('a;b="1', "expected a closing quote at character 6"),
        ('a;b="', "expected a closing quote at character 5"),
        ('a;b="1\\', "expected a closing quote at character 7"),
        ('a;b=""', "the quoted value '' is not a token"),
        ('a;b="1 2"', "the quoted value '1 2' is not a token"),
        ('a;b="1\\"2"', "the quoted value '1\"2' is not a token"),
        ('"a"', "expected a token at character 0"),
        ("é", "expected a token at character 0"),
        ("a\r\n", "expected a comma, a semicolon or the end at character 1"),
        ("a\0", "expected a comma, a semicolon or the end at character 1"),
    ],
)
def test_extensions_that_break_the_grammar_are_refused(value: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_extensions(value)
    assert str(caught.value) == message


@settings(deadline=None)
@given(st.one_of(st.text(), st.text(alphabet='ab=;,"\\ \t')))
def test_extensions_of_any_text_are_a_list_or_a_value_error(value: str) -> None:
    try:
        extensions = parse_extensions(value)
    except ValueError:
        return
    again = ",".join(";".join([name, *(f"{k}={v}" if v else k for k, v in params)]) for name, params in extensions)
    assert parse_extensions(again) == extensions


def count_lines(function: Callable[[], object]) -> int:
    """Count the lines of Python that a call runs: a measure of its work that no busy machine can change."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> TraceFunction:
        nonlocal count
        count += event == "line"
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(previous)
    return count


HOSTILE: dict[str, Callable[[int], str]] = {
    "white space": lambda size: "b" + " " * size + "x",
    "commas": lambda size: "," * size,
    "commas and spaces": lambda size: ", " * (size // 2),
    "semicolons": lambda size: "a" + ";b" * (size // 2),
    "open quote": lambda size: 'a;b="' + "c" * size,
    "quotes": lambda size: 'a;b="' + '"' * size,
    "backslashes": lambda size: 'a;b="' + "\\" * size,
    "names": lambda size: "a," * (size // 2),
    "one name": lambda size: "a" * size,
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_work_on_a_hostile_value_grows_with_its_size_only(make: Callable[[int], str]) -> None:
    def parse(value: str) -> None:
        parse_list(value)
        has_token(value, "upgrade")
        with contextlib.suppress(ValueError):
            parse_extensions(value)

    small, large = (count_lines(partial(parse, make(size))) for size in (2048, 8192))
    assert large <= 4 * small
    assert large <= 40 * 8192


def test_the_work_on_many_fields_of_one_name_grows_with_their_number_only() -> None:
    small, large = (count_lines(partial(Headers, [("X", "y" * 80)] * count)) for count in (100, 400))
    assert large <= 4 * small
    assert Headers([("X", "y" * 80)] * 400)["x"] == ", ".join(["y" * 80] * 400)


def test_no_regular_expression_reads_a_header() -> None:
    imported = {
        name
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
    }
    assert "string" in imported
    assert "re" not in imported


def test_six_headers_of_8_kib_are_parsed_right() -> None:
    values = ["a" * 8191 + letter for letter in "abcdef"]
    headers = Headers([("Sec-WebSocket-Extensions", value) for value in values])
    assert parse_extensions(headers["sec-websocket-extensions"]) == [(value, []) for value in values]
    assert parse_list(headers["sec-websocket-extensions"]) == values
    assert has_token(headers["sec-websocket-extensions"], values[-1].upper())
