"""S-expressions, as libgcrypt writes and reads them: keys, access lists and signatures.

An expression is an atom (bytes) or a list (a tuple). Read are the canonical form, whose atoms have
their length in front, and the advanced one with tokens, quoted strings, hexadecimal and base 64.
Written is the advanced form, to the byte as libgcrypt does it, since signatures and key files are
compared as text.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, NoReturn

from guix_glue.errors import InvalidExpression

__all__ = ["MAX_ATOMS", "MAX_DEPTH", "Expression", "find", "format_advanced", "parse"]

Expression = bytes | tuple["Expression", ...]

MAX_DEPTH: Final = 32
MAX_ATOMS: Final = 100_000

_BLANK: Final = re.compile(rb"[ \t\r\n\v\f]*")
_TOKEN: Final = re.compile(rb"[A-Za-z\-./_:*+=][A-Za-z0-9\-./_:*+=]*")
_HEX: Final = re.compile(rb"#([0-9A-Fa-f \t\r\n\v\f]*)#")
_BASE64: Final = re.compile(rb"\|([A-Za-z0-9+/= \t\r\n\v\f]*)\|")
_QUOTED: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_COUNTED: Final = re.compile(rb"([0-9]{1,7}):")
_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{3})|x([0-9A-Fa-f]{2})|(\r\n|\n\r|.))", re.DOTALL)
_ESCAPES: Final = {b"b": b"\b", b"t": b"\t", b"v": b"\v", b"n": b"\n", b"f": b"\f", b"r": b"\r"}


def parse(text: bytes, *, max_depth: int = MAX_DEPTH, max_atoms: int = MAX_ATOMS) -> Expression:
    """Read one expression, in any layout.

    At most `max_depth` lists deep: signatures have four; and `max_atoms` atoms: an access list of
    ten thousand keys.
    Raises: InvalidExpression.
    """
    return _Parser(text, max_depth, max_atoms).parse()


class _Parser:
    """A stack of open lists, so that depth costs no recursion."""

    def __init__(self, text: bytes, max_depth: int, max_atoms: int) -> None:
        self._text = text
        self._max_depth = max_depth
        self._max_atoms = max_atoms
        self._at = 0
        self._atoms = 0

    def parse(self) -> Expression:
        stack: list[list[Expression]] = []
        while True:
            self._skip_blanks()
            letter = self._text[self._at : self._at + 1]
            if letter == b"(":
                self._at += 1
                stack.append([])
                if len(stack) > self._max_depth:
                    self._fail(f"lists are more than {self._max_depth} deep")
                continue
            if letter == b")":
                if not stack:
                    self._fail("a list ends that has not begun")
                self._at += 1
                done: Expression = tuple(stack.pop())
            else:
                done = self._atom()
            if not stack:
                self._skip_blanks()
                if self._text[self._at :].strip(b"\0"):
                    self._fail("something follows the expression")
                return done
            stack[-1].append(done)

    def _skip_blanks(self) -> None:
        found = _BLANK.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _atom(self) -> bytes:
        self._atoms += 1
        if self._atoms > self._max_atoms:
            self._fail(f"there are more than {self._max_atoms} atoms")
        if found := _COUNTED.match(self._text, self._at):
            start, stop = found.end(), found.end() + int(found[1])
            if stop > len(self._text):
                self._fail("an atom is cut off")
            self._at = stop
            return self._text[start:stop]
        if found := _TOKEN.match(self._text, self._at):
            self._at = found.end()
            return found[0]
        for pattern, read in ((_HEX, _read_hex), (_BASE64, _read_base64), (_QUOTED, _unquote)):
            if found := pattern.match(self._text, self._at):
                try:
                    value = read(found[1])
                except ValueError:
                    self._fail("an atom cannot be read")
                self._at = found.end()
                return value
        self._fail("an atom is missing or cut off, or a list is not closed")

    def _fail(self, reason: str) -> NoReturn:
        raise InvalidExpression(reason, self._at)


def _read_hex(digits: bytes) -> bytes:
    return bytes.fromhex(digits.decode("ascii"))


def _read_base64(digits: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(digits.split()), validate=True)
    except binascii.Error as error:
        raise ValueError from error


def _unquote(text: bytes) -> bytes:
    def character(found: re.Match[bytes]) -> bytes:
        octal, hexadecimal, letter = found.groups()
        if octal is not None:
            return bytes([int(octal, 8)])
        if hexadecimal is not None:
            return bytes([int(hexadecimal, 16)])
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        # A line break that is escaped is none.
        return b"" if letter.strip(b"\r\n") == b"" else letter

    return _ESCAPE.sub(character, text)


def find(expression: Expression, name: bytes) -> tuple[Expression, ...] | None:
    """The first list in a list that has this atom as its head; None if there is none."""
    if isinstance(expression, tuple):
        for part in expression:
            if isinstance(part, tuple) and part[:1] == (name,):
                return part
    return None


def format_advanced(expression: Expression) -> bytes:
    """Write an expression as libgcrypt does in its advanced form, line break at the end."""
    return _format(expression, 0) + b"\n"


def _format(expression: Expression, depth: int) -> bytes:
    if isinstance(expression, bytes):
        return _format_atom(expression)
    inner = b""
    has_lists = False
    for place, part in enumerate(expression):
        if isinstance(part, tuple):
            has_lists = True
            inner += b" \n" if not place or isinstance(expression[place - 1], bytes) else b"\n"
            inner += b" " * (depth + 1) + _format(part, depth + 1)
        else:
            inner += (b" " if place else b"") + _format_atom(part)
    if has_lists:
        inner += b"\n" + b" " * (depth + 1)
    return b"(" + inner + b")"


def _format_atom(atom: bytes) -> bytes:
    if _TOKEN.fullmatch(atom):
        return atom
    if atom and all(32 <= value < 127 for value in atom):
        return b'"' + atom.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return b"#" + atom.hex().upper().encode() + b"#"
