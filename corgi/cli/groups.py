"""Groups of options that several commands share: a command names the group, typer sees its options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

R = TypeVar("R")


def with_group(name: str, build: Callable[..., Any]) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Make a command's parameter `name` a group: the parameters of `build` stand in its place.

    The command gets what `build` returns for them. A parameter of the command's own stands in for the option
    of that name. `build` may have groups itself.
    """

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        own = inspect.signature(command).parameters
        options = {each: p for each, p in inspect.signature(build).parameters.items() if each not in own}
        hints = get_type_hints(build, include_extras=True) | get_type_hints(command, include_extras=True)

        @functools.wraps(command)
        def wrapped(**given: Any) -> R:
            chosen = {option: given.pop(option) for option in options if option in given}
            return command(**given, **{name: build(**chosen)})

        shown: list[inspect.Parameter] = []
        for each, parameter in own.items():
            shown += list(options.values()) if each == name else [parameter]
        named = [p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in shown]
        wrapped.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {p.name: p.annotation for p in named}
        return wrapped

    return decorate
