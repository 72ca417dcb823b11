"""S-expressions with line numbers: the surface of both versions of VNN-LIB."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from corgi.errors import SpecError

DEEPEST = 64
"""Parentheses within parentheses; files written by tools have about six."""

_TOKEN = re.compile(r"\s+|;[^\n]*|(?P<word>[()\[\],]|[^\s()\[\],;]+)", re.ASCII)


@dataclass(frozen=True)
class Atom:
    """A word or number, with the indices behind it: X[0,1]."""

    text: str
    line: int
    indices: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Group:
    """Expressions in parentheses; `line` is where they open."""

    items: tuple[Expression, ...]
    line: int


Expression = Atom | Group


def read_expressions(text: str) -> list[Expression]:
    """All expressions of a text; a line feed, a carriage return or both end a line, and its comment.

    Raises:
        SpecError: a parenthesis or bracket without its partner, too many within each other, or indices
            without a comma between them.
    """
    reader = _Reader()
    for token in _TOKEN.finditer(text.replace("\r\n", "\n").replace("\r", "\n")):
        word = token.group("word")
        if word is not None and reader.indices is not None:
            reader.index(word)
        elif word is not None:
            reader.read(word)
        reader.line += token.group().count("\n")
    return reader.end()


class _Reader:
    """What was read: the groups that are open, with the lines they open in, and indices within brackets."""

    def __init__(self) -> None:
        self.line = 1
        self.open: list[tuple[list[Expression], int]] = [([], 1)]
        self.indices: list[str] | None = None

    def read(self, word: str) -> None:
        """A word outside of brackets."""
        items = self.open[-1][0]
        match word:
            case "(":
                self.open.append(([], self.line))
                if len(self.open) > DEEPEST + 1:
                    self.fail(f"more than {DEEPEST} parentheses within each other")
            case ")":
                if len(self.open) == 1:
                    self.fail("')' without '('")
                _, opened = self.open.pop()
                self.open[-1][0].append(Group(tuple(items), opened))
            case "[":
                if not items or not isinstance(items[-1], Atom) or items[-1].indices is not None:
                    self.fail("'[' without a name in front of it")
                self.indices = []
            case "]" | ",":
                self.fail(f"unexpected '{word}'")
            case _:
                items.append(Atom(word, self.line))

    def index(self, word: str) -> None:
        """A word between brackets, which belong to the name in front of them."""
        assert self.indices is not None
        if word == "]":
            items = self.open[-1][0]
            name = items.pop()
            assert isinstance(name, Atom)
            items.append(Atom(name.text, name.line, tuple("".join(self.indices).split(","))))
            self.indices = None
        elif word in ("(", ")", "["):
            self.fail(f"'{word}' between brackets")
        elif word != "," and self.indices[-1:] not in ([], [","]):
            self.fail(f"no comma in front of '{word[:40]}' between brackets")
        else:
            self.indices.append(word)

    def end(self) -> list[Expression]:
        """The expressions of a text that is over."""
        if self.indices is not None:
            self.fail("'[' is never closed")
        if len(self.open) > 1:
            self.line = self.open[-1][1]
            self.fail("'(' is never closed")
        return self.open[0][0]

    def fail(self, reason: str) -> NoReturn:
        raise SpecError(f"line {self.line}: {reason}")
