"""JSON laid out for people: one member or item a line. Nothing but the white space is changed."""

from __future__ import annotations

import json
import re

_INDENT = "  "
_OPENING, _CLOSING = ("{", "["), ("}", "]")
_LONGEST = 2**16  # characters; of what is longer little is seen
# A string, a bracket or comma or colon, or what is neither: a number, true, false, null.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


def lay_out(text: str) -> list[str] | None:
    """Lay out an object or an array; None if the text is no JSON, another value, or too long.

    Names that come twice stay, and numbers keep their digits, which a value of Python would not keep.
    """
    if len(text) > _LONGEST or not text.lstrip(" \t\r\n").startswith(_OPENING):
        return None
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    lines, depth, line, previous = [], 0, "", ""
    for token in _TOKEN.findall(text):
        closes = token in _CLOSING
        depth -= closes
        is_empty = closes and previous in _OPENING
        if not is_empty and (closes or previous in _OPENING or previous == ","):
            lines.append(line)
            line = _INDENT * depth
        line += ": " if token == ":" else token
        depth += token in _OPENING
        previous = token
    return [*lines, line]
