"""S-expressions with line numbers: the surface of both versions of VNN-LIB."""

from __future__ import annotations

import re
from dataclasses import dataclass

from corgi.errors import SpecError

DEEPEST = 64
"""Parentheses within parentheses; files written by tools have about six."""

_TOKEN = re.compile(r"\s+|;[^\n]*|(?P<mark>[()\[\],])|(?P<atom>[^\s()\[\],;]+)", re.ASCII)


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


def read_expressions(path: object, text: str) -> list[Expression]:
    """All expressions of a text; a line feed, a carriage return or both end a line, and its comment.

    Args:
        path: the file, for messages.
        text: what it holds.

    Raises:
        SpecError: a parenthesis or bracket without its partner, too many within each other, or indices
            without a comma between them.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    stack: list[tuple[list[Expression], int]] = [([], 1)]
    brackets: list[str] | None = None
    line = 1
    for token in _TOKEN.finditer(text):
        mark, atom = token.group("mark"), token.group("atom")
        items = stack[-1][0]
        if brackets is not None:
            if mark == "]":
                before = items.pop()
                assert isinstance(before, Atom)
                items.append(Atom(before.text, before.line, tuple("".join(brackets).split(","))))
                brackets = None
            elif mark == "," or (atom is not None and brackets[-1:] in ([], [","])):
                brackets.append(token.group())
            elif atom is not None:
                raise SpecError(f"{path}: line {line}: no comma in front of '{atom[:40]}' between brackets")
            elif mark is not None:
                raise SpecError(f"{path}: line {line}: '{mark}' between brackets")
        elif atom is not None:
            items.append(Atom(atom, line))
        elif mark == "(":
            stack.append(([], line))
            if len(stack) > DEEPEST + 1:
                raise SpecError(f"{path}: line {line}: more than {DEEPEST} parentheses within each other")
        elif mark == ")":
            if len(stack) == 1:
                raise SpecError(f"{path}: line {line}: ')' without '('")
            done, opened = stack.pop()
            stack[-1][0].append(Group(tuple(done), opened))
        elif mark == "[":
            if not items or not isinstance(items[-1], Atom) or items[-1].indices is not None:
                raise SpecError(f"{path}: line {line}: '[' without a name in front of it")
            brackets = []
        elif mark is not None:
            raise SpecError(f"{path}: line {line}: unexpected '{mark}'")
        line += token.group().count("\n")
    if brackets is not None:
        raise SpecError(f"{path}: line {line}: '[' is never closed")
    if len(stack) > 1:
        raise SpecError(f"{path}: line {stack[-1][1]}: '(' is never closed")
    return stack[0][0]
