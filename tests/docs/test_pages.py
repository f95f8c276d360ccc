"""What the pages say in tables, against what is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

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
