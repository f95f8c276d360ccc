"""The values of arguments, as they are parsed."""

from __future__ import annotations

import argparse
import math

import pytest

from trio_ws import Compression
from trio_ws._cli import build_parser
from trio_ws._cli.arguments import header, port_number, seconds, whole_number


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("8080", 8080), ("65535", 65535), ("00080", 80)])
def test_ports(text: str, value: int) -> None:
    assert port_number(text) == value


@pytest.mark.parametrize("text", ["", "-1", "65536", "000080", "\N{ARABIC-INDIC DIGIT ONE}", "1.0", " 1"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a port"):
        port_number(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("1048576", 2**20)])
def test_whole_numbers(text: str, value: int) -> None:
    assert whole_number(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1_000", "1e3", "\N{SUPERSCRIPT TWO}"])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number"):
        whole_number(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("1.5", 1.5), ("inf", math.inf)])
def test_seconds(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "-1", "nan", "soon"])
def test_what_is_no_number_of_seconds(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number of seconds from 0 on"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Name: value", ("Name", "value")),
        ("Name:value", ("Name", "value")),
        ("Name:", ("Name", "")),
        ("Name: \t a: b \t", ("Name", "a: b")),
    ],
)
def test_headers(text: str, value: tuple[str, str]) -> None:
    assert header(text) == value


def test_a_header_without_a_colon_is_not_shown() -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        header("Authorization secret")
    assert "secret" not in str(caught.value)


def test_shared_arguments() -> None:
    parse = build_parser().parse_args
    plain, full = parse(["serve"]), parse(["serve", "--protocol", "a", "--protocol", "b", "--no-compression"])
    assert (plain.protocols, plain.compression, plain.max_size) == ([], Compression(), 2**20)
    assert (full.protocols, full.compression) == (["a", "b"], None)
