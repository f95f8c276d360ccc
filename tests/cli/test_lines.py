"""Lines of the input of ``trio-ws connect``: which are messages, which are commands, and which are neither."""

from __future__ import annotations

import pytest

from trio_ws._cli.lines import Bye, Command, Help, InputError, Ping, Send, parse_line


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("", Send("")),
        ("hello", Send("hello")),
        (" /ping", Send(" /ping")),
        ("//ping", Send("/ping")),
        ("//", Send("/")),
        ("/ping", Ping(None)),
        ("/ping ", Ping(None)),
        ("/ping a b ", Ping(b"a b ")),
        ("/ping " + "x" * 125, Ping(b"x" * 125)),
        ("/binary 00 fF1b", Send(b"\x00\xff\x1b")),
        ("/binary", Send(b"")),
        ("/close", Bye(1000, "")),
        ("/close 4000", Bye(4000, "")),
        ("/close 1000 see you soon", Bye(1000, "see you soon")),
        ("/close 1011 out of memory", Bye(1011, "out of memory")),
        ("/help", Help()),
    ],
)
def test_a_line_is_a_message_unless_it_begins_with_one_slash(line: str, command: Command) -> None:
    assert parse_line(line.encode()) == command


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/", "there is no command /;"),
        ("/pong", "there is no command /pong;"),
        ("/ping " + "x" * 126, "/ping: payload has 126 bytes: at most 125"),
        ("/binary 0", "/binary: "),
        ("/binary xy", "/binary: "),
        ("/close soon", "/close: 'soon' is not a close code"),
        ("/close \N{SUPERSCRIPT TWO}", "/close: '\N{SUPERSCRIPT TWO}' is not a close code"),
        (
            "/close 1005",
            "/close: code 1005 is not allowed: it must be 1000 to 1003, 1007 to 1014 or 3000 to 4999",
        ),
        ("/close 1000 " + "x" * 124, "/close: reason has 124 bytes of UTF-8"),
    ],
)
def test_what_is_no_command_says_why(line: str, complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_line(line.encode())
    assert str(caught.value).startswith(complaint)
