"""How messages are shown at a terminal, and the file that keeps what was typed."""

from __future__ import annotations

import io
import json
import sys
from datetime import datetime
from pathlib import Path

import pytest

from trio_ws._cli import history
from trio_ws._cli.display import TerminalDisplay
from trio_ws._cli.json_layout import lay_out
from trio_ws._cli.terminal import Screen

NOW = datetime(2026, 1, 2, 3, 4, 5, 678900)


def shown(message: str | bytes) -> str:
    return TerminalDisplay(Screen(io.StringIO(), {}), lambda: NOW)(message)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("hello\x1b", "hello\\x1b"),
        (b"\x00\xff", "[binary, 2 bytes] 00 ff"),
        ('{"a":1}', '{\n  "a": 1\n}'),
        ('"no container"', '"no container"'),
        ('{"\u202e": "\x7f"}', '{\n  "\\u202e": "\\x7f"\n}'),
        ("x" * 2000, "x" * 2000),
        ("x" * 2001, "x" * 2000 + " ... (2,001 characters in all, --plain shows them)"),
    ],
)
def test_a_message_is_shown_with_the_time(message: str | bytes, text: str) -> None:
    assert shown(message) == f"03:04:05.678 < {text}"


def test_long_json_is_cut_short() -> None:
    text = json.dumps(list(range(1000)))
    lines = shown(text).splitlines()
    assert lines[:3] == ["03:04:05.678 < [", "  0,", "  1,"]
    assert lines[-1].endswith(f" ... ({len(text):,} characters in all, --plain shows them)")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("{}", ["{}"]),
        (" [ ] ", ["[]"]),
        ("[1,2]", ["[", "  1,", "  2", "]"]),
        ('{"a":{"b":[]},"c":[{}]}', ["{", '  "a": {', '    "b": []', "  },", '  "c": [', "    {}", "  ]", "}"]),
        # What Python's values would not keep.
        (
            '{"a":1.00,"a":1e999,"b":123456789012345678901234567890}',
            ["{", '  "a": 1.00,', '  "a": 1e999,', '  "b": 123456789012345678901234567890', "}"],
        ),
        ('["\\"},{[", "\\\\"]', ["[", '  "\\"},{[",', '  "\\\\"', "]"]),
        (f"[{'9' * 5000}]", ["[", f"  {'9' * 5000}", "]"]),
    ],
)
def test_json_is_laid_out_as_it_is(text: str, lines: list[str]) -> None:
    assert lay_out(text) == lines


@pytest.mark.parametrize(
    "text", ["", "1", '"x"', "{", "[1,]", "{a}", "[" * 100_000, "[" * 10_000, f'["{"x" * 2**16}"]']
)
def test_anything_else_is_not(text: str) -> None:
    assert lay_out(text) is None


def test_the_history_is_where_state_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert history.history_path({"XDG_STATE_HOME": "/state"}) == Path("/state/trio-ws/history")
    assert history.history_path({}) == Path("~/.local/state/trio-ws/history").expanduser()


def test_the_history_on_windows_is_where_state_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert history.history_path({"LOCALAPPDATA": "/local"}) == Path("/local/trio-ws/history")


def test_the_history_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "history"
    assert history.prepare_history(path)
    entry = "\n# 2026-01-01 00:00:00\n+line {}\n"
    path.write_text("".join(entry.format(number) for number in range(50_000)))
    assert history.prepare_history(path)
    kept = path.read_text()
    assert 2**19 - 100 < len(kept) <= 2**19
    assert kept.startswith("\n# ")
    assert kept.endswith(entry.format(49_999))


def test_a_history_that_cannot_be_kept_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not history.prepare_history(tmp_path / "file" / "history")
