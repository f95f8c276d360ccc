"""HTTP header fields: a read-only mapping, and the grammar of the few that a WebSocket handshake needs.

Everything here works on ``str`` decoded as latin-1, and in time linear in its input: a peer chooses what is parsed.
Source: RFC 9110 §5 and §5.6, RFC 6455 §9.1.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Iterator, Mapping

HeadersLike = Mapping[str, str] | Iterable[tuple[str, str]]
"""What a caller may pass for headers: a mapping, or pairs of name and value if a name comes more than once."""

_SECRET = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
_WHITESPACE = " \t"
# RFC 9110 §5.6.2.
_TOKEN_CHARACTERS = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
# RFC 9110 §5.5, without the C1 controls: some software takes \x85 for the end of a line.
_VALUE_CHARACTERS = frozenset(map(chr, [0x09, *range(0x20, 0x7F), *range(0xA0, 0x100)]))


class Headers(Mapping[str, str]):
    """The header fields of one HTTP message: immutable, in order, names in any case.

    ``headers[name]`` is one string, with ", " between the values of a name that came more than once ("; " for
    Cookie). ``get_all`` keeps them apart. Iteration gives each name once, as it was spelled first.

    Args:
        fields: a mapping, or pairs of name and value. What they say is not checked: see ``check_header``.

    Raises:
        TypeError: it is neither a mapping nor pairs, or has a name or a value that is no str.

    Source: RFC 9110 §5.3; RFC 9113 §8.2.3 for Cookie.
    """

    __slots__ = ("_by_name", "_fields")

    def __init__(self, fields: HeadersLike = ()) -> None:
        self._fields: tuple[tuple[str, str], ...] | str = fields.raw if isinstance(fields, Headers) else _pairs(fields)
        self._by_name: dict[str, list[str]] | None = None

    @property
    def raw(self) -> tuple[tuple[str, str], ...]:
        """Every field, in order, as it was spelled."""
        if isinstance(self._fields, str):
            texts = self._fields.split("\n")
            self._fields = tuple(zip(texts[::2], texts[1::2], strict=True))
        return self._fields

    def pack(self) -> None:
        """Take a quarter of the memory until somebody looks again: for the headers of a connection that may live long.

        Fields that have line ends, which no message can have, are left as they are.
        """
        if self._fields and not isinstance(self._fields, str):
            packed = "\n".join(itertools.chain.from_iterable(self._fields))
            if packed.count("\n") == 2 * len(self._fields) - 1:
                self._fields = packed
        self._by_name = None

    @property
    def _grouped(self) -> dict[str, list[str]]:
        if self._by_name is None:
            self._by_name = {}
            for name, value in self.raw:
                self._by_name.setdefault(name.lower(), []).append(value)
        return self._by_name

    def get_all(self, name: str) -> list[str]:
        """Return the values of one name in order, an empty list if there is none."""
        return list(self._grouped.get(name.lower(), ()))

    def __getitem__(self, name: str) -> str:
        wanted = name.lower()
        values = self._grouped[wanted]
        return values[0] if len(values) == 1 else ("; " if wanted == "cookie" else ", ").join(values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._grouped

    def __iter__(self) -> Iterator[str]:
        # A dict keeps its first value for a key that setdefault sees again.
        spelled: dict[str, str] = {}
        for name, _ in self.raw:
            spelled.setdefault(name.lower(), name)
        return iter(spelled.values())

    def __len__(self) -> int:
        return len(self._grouped)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        lowered = {name.lower(): value for name, value in other.items() if isinstance(name, str)}
        return len(other) == len(lowered) and {name.lower(): value for name, value in self.items()} == lowered

    def __repr__(self) -> str:
        shown = [(name, "<hidden>" if name.lower() in _SECRET else value) for name, value in self.raw]
        return f"Headers({shown!r})"


def _pairs(fields: HeadersLike) -> tuple[tuple[str, str], ...]:
    if not isinstance(fields, tuple | list):  # which are told fast
        if isinstance(fields, str | bytes) or not isinstance(fields, Iterable):
            raise TypeError(f"headers must be a mapping or an iterable of pairs, not {type(fields).__name__}")
        fields = fields.items() if isinstance(fields, Mapping) else fields
    pairs = []
    for pair in fields:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"headers must hold pairs of name and value, not {type(pair).__name__}")
        name, value = pair
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"header {name!r} must have a str for its name and its value")
        pairs.append((name, value))
    return tuple(pairs)


def is_token(text: str) -> bool:
    """Tell whether text is a token (RFC 9110 §5.6.2): not empty, ASCII, no separators."""
    return bool(text) and _TOKEN_CHARACTERS.issuperset(text)


def check_header(name: str, value: str) -> None:
    """Check one header field that a caller wants to send.

    The value is not shown in errors, since it may be a secret.

    Args:
        name: a token.
        value: latin-1 text without control characters other than tab, and without white space at its ends.

    Raises:
        ValueError: either breaks its rule; the message names the header.

    Source: RFC 9110 §5.1 and §5.5.
    """
    if not is_token(name):
        raise ValueError(f"the header name {name!r} is not a token (RFC 9110 §5.6.2)")
    for character in value:
        if character not in _VALUE_CHARACTERS:
            raise ValueError(f"the value of header {name!r} must not contain {character!r} (RFC 9110 §5.5)")
    if value != value.strip(_WHITESPACE):
        raise ValueError(f"the value of header {name!r} must not begin or end with white space (RFC 9110 §5.5)")


def headers_of(pairs: Iterable[tuple[str, str]]) -> Headers:
    """Make headers of what is known to be pairs of str, since we have made it: looking again takes as long."""
    headers = Headers()
    headers._fields = tuple(pairs)
    return headers


def parse_list(value: str) -> list[str]:
    """Split a comma-separated value into its elements; empty ones are dropped (RFC 9110 §5.6.1.2)."""
    elements = (element.strip(_WHITESPACE) for element in value.split(","))
    return [element for element in elements if element]


def has_token(value: str, token: str) -> bool:
    """Tell whether a comma-separated value has this element, in any case."""
    wanted, given = token.lower(), value.lower()
    return given == wanted or wanted in parse_list(given)


def parse_extensions(value: str) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """Parse a Sec-WebSocket-Extensions header.

    Args:
        value: the header's value; the values of several such headers are joined with commas.

    Returns:
        For each extension its name and its parameters, in order: pairs of name and value, None where there is no
        value. Quoted values come without their quotes.

    Raises:
        ValueError: the value breaks the grammar.

    Source: RFC 6455 §9.1.
    """
    extensions: list[tuple[str, list[tuple[str, str | None]]]] = []
    if not value:
        return extensions
    scanner = _Scanner(value)
    while not scanner.at_end():
        if scanner.take(","):
            continue
        name = scanner.token()
        parameters: list[tuple[str, str | None]] = []
        while scanner.take(";"):
            parameter = scanner.token()
            parameters.append((parameter, scanner.value() if scanner.take("=") else None))
        extensions.append((name, parameters))
        if not scanner.at_end() and not scanner.take(","):
            raise scanner.error("a comma, a semicolon or the end")
    return extensions


class _Scanner:
    """Reads a header value from left to right, and each character once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def error(self, expected: str) -> ValueError:
        return ValueError(f"expected {expected} at character {self._position}")

    def _skip_whitespace(self) -> None:
        while self._text[self._position : self._position + 1] in (" ", "\t"):
            self._position += 1

    def at_end(self) -> bool:
        self._skip_whitespace()
        return self._position == len(self._text)

    def take(self, character: str) -> bool:
        taken = not self.at_end() and self._text[self._position] == character
        self._position += taken
        return taken

    def token(self) -> str:
        self._skip_whitespace()
        start = self._position
        while self._text[self._position : self._position + 1] in _TOKEN_CHARACTERS:
            self._position += 1
        if self._position == start:
            raise self.error("a token")
        return self._text[start : self._position]

    def value(self) -> str:
        return self._quoted() if self.take('"') else self.token()

    def _quoted(self) -> str:
        characters = []
        while (character := self._next()) != '"':
            characters.append(self._next() if character == "\\" else character)
        text = "".join(characters)
        # RFC 6455 §9.1: what was quoted must be a token once it is unquoted.
        if not is_token(text):
            raise ValueError(f"the quoted value {text!r} is not a token")
        return text

    def _next(self) -> str:
        if self._position == len(self._text):
            raise self.error("a closing quote")
        self._position += 1
        return self._text[self._position - 1]
