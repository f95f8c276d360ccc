"""What a terminal gets to see: nothing that could harm it, colours where they are wanted, a progress bar that fits."""

from __future__ import annotations

import io
import sys
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws._cli.terminal import Progress, Screen, Style, count_rows, escape, megabytes_per_second

if TYPE_CHECKING:
    import trio.testing


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("", ""),
        ("plain \\n text", "plain \\n text"),
        ("D\xe9j\xe0 \u20ac \U0001f600", "D\xe9j\xe0 \u20ac \U0001f600"),
        ("a\tb\r\nc\0", "a\\tb\\r\\nc\\x00"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eabc\u2028", "\\u202eabc\\u2028"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, escaped: str) -> None:
    assert escape(text) == escaped


@given(st.text(st.characters()))
def test_nothing_but_printable_characters_is_left(text: str) -> None:
    escaped = escape(text)
    assert escaped.isprintable()
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in escaped)


def test_no_character_gets_through_that_terminals_obey() -> None:
    for code in [*range(0x20), 0x7F, *range(0x80, 0xA0)]:
        assert escape(chr(code)).isascii()
        assert escape(chr(code)).isprintable()
    assert all(escape(chr(code)).isprintable() for code in range(sys.maxunicode + 1))


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("", 10, 1),
        ("x" * 10, 10, 1),
        ("x" * 11, 10, 2),
        ("x" * 30, 10, 3),
        ("\u65e5" * 5, 10, 1),
        ("\u65e5" * 5, 9, 2),
        ("\u65e5" * 8, 5, 4),
        ("e\u0301" * 10, 10, 1),
    ],
)
def test_rows_are_counted_as_terminals_break_them(text: str, columns: int, rows: int) -> None:
    assert count_rows(text, columns) == rows


@pytest.mark.parametrize(
    ("stream", "environment", "painted"),
    [
        (Terminal(), {}, "\x1b[32mgood\x1b[0m"),
        (Terminal(), {"NO_COLOR": ""}, "\x1b[32mgood\x1b[0m"),
        (Terminal(), {"NO_COLOR": "1"}, "good"),
        (Terminal(), {"TERM": "dumb"}, "good"),
        (io.StringIO(), {}, "good"),
    ],
)
def test_colours_are_for_terminals_whose_user_wants_them(
    stream: io.StringIO, environment: dict[str, str], painted: str
) -> None:
    assert Screen(stream, environment).paint("good", Style.GOOD) == painted


def test_lines_headings_and_facts_are_plain_text_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    screen = Screen(stream, {})
    screen.heading("Facts")
    screen.fact("name", "value")
    screen.line("end")
    assert stream.getvalue() == "\nFacts\n  name            value\nend\n"


def show_progress(screen: Screen, clock: trio.testing.MockClock) -> None:
    progress = Progress(screen, 8 * 2**20)
    for done in range(1, 9):
        clock.jump(0.02)
        progress.update(done * 2**20)
    assert progress.elapsed == pytest.approx(0.16)


async def test_without_a_terminal_progress_is_a_few_lines(mock_clock: trio.testing.MockClock) -> None:
    stream = io.StringIO()
    show_progress(Screen(stream, {}), mock_clock)
    assert stream.getvalue() == (
        "   12 %    1.0 of 8.0 MiB  52.4 MB/s\n"
        "   25 %    2.0 of 8.0 MiB  52.4 MB/s\n"
        "   50 %    4.0 of 8.0 MiB  52.4 MB/s\n"
        "   75 %    6.0 of 8.0 MiB  52.4 MB/s\n"
        "  100 %    8.0 of 8.0 MiB  52.4 MB/s\n"
    )


async def test_on_a_terminal_progress_is_one_line_that_is_redrawn_now_and_then(
    mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    stream = Terminal()
    show_progress(Screen(stream, {"NO_COLOR": "1"}), mock_clock)
    assert stream.getvalue() == (
        "\r  [#........]   12 %    1.0 of 8.0 MiB  52.4 MB/s\x1b[K"
        "\r  [####.....]   50 %    4.0 of 8.0 MiB  52.4 MB/s\x1b[K"
        "\r  [#######..]   87 %    7.0 of 8.0 MiB  52.4 MB/s\x1b[K"
        "\r  [#########]  100 %    8.0 of 8.0 MiB  52.4 MB/s\x1b[K\n"
    )


@pytest.mark.parametrize(("columns", "bar"), [("200", "[" + "#" * 40 + "]"), ("41", "[#]"), ("40", "")])
async def test_the_bar_fits_the_terminal_or_is_left_out(
    columns: str, bar: str, mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    stream = Terminal()
    progress = Progress(Screen(stream, {"NO_COLOR": "1"}), 8 * 2**20)
    mock_clock.jump(1)
    progress.update(8 * 2**20)
    line = stream.getvalue().removeprefix("\r").removesuffix("\x1b[K\n")
    assert line == (f"  {bar}  " if bar else "") + "100 %    8.0 of 8.0 MiB  8.4 MB/s"
    assert len(line) < int(columns)


def test_no_time_at_all_is_no_division_by_zero() -> None:
    assert megabytes_per_second(0, 0.0) == "0.0 MB/s"
    assert megabytes_per_second(5_000_000, 2.0) == "2.5 MB/s"
