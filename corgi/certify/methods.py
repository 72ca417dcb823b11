"""Engines and methods by name: what `--engine` and `--method` say, and the calls of the API.

Nothing heavy is imported before an engine is built: the command line refuses names first.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from corgi.errors import UsageError
from corgi.terms import EngineName, Form, LipschitzMethod, LirpaMethod, Method, PatchMethod

if TYPE_CHECKING:
    from corgi.engines.interface import BoundEngine
    from corgi.engines.parametric import FamilyEngine

_METHODS: dict[EngineName, type[StrEnum]] = {
    EngineName.PATCH: PatchMethod,
    EngineName.LIRPA: LirpaMethod,
    EngineName.LIPSCHITZ: LipschitzMethod,
}


def decides_exactly(engine: EngineName | None, method: Method | None, form: Form) -> bool:
    """Whether margins are decided exactly: if asked for, or if nothing was asked that rules it out."""
    if method is not None:
        return method is Method.EXACT
    return engine in (None, EngineName.PATCH) and form is Form.PAIRWISE


def engine_of(name: EngineName | None, method: Method | None, form: Form) -> tuple[EngineName, Method]:
    """Engine and relaxation a user asked for; without a name, the first engine that has the method.

    Raises:
        UsageError: the engine does not have the method, or exact decisions are asked of another form.
    """
    if method is Method.EXACT and (name not in (None, EngineName.PATCH) or form is not Form.PAIRWISE):
        wrong = f"--form {form}" if name in (None, EngineName.PATCH) else f"--engine {name}"
        raise UsageError(f"--method exact: not with {wrong}", hint="Leave that option away.")
    if method is Method.LIPSCHITZ or (method is None and name is EngineName.LIPSCHITZ):
        method = Method.LIPSCHITZ_ROWS
    if method is None or method is Method.EXACT:
        method = Method.CROWN
    known = {engine: [m.value for m in methods] for engine, methods in _METHODS.items()}
    if name is None:
        name = next(engine for engine, methods in known.items() if method.value in methods)
    if method.value not in known[name]:
        raise UsageError(f"--engine {name}: no method {method}", hint=f"It has {', '.join(known[name])}.")
    return name, method


def default_engine(name: EngineName = EngineName.PATCH) -> BoundEngine:
    """What a user gets who names an engine, or none, and no method.

    Raises:
        EngineError: it is lirpa, and auto_LiRPA is not installed.
    """
    return build_engine(*engine_of(name, None, Form.PAIRWISE))


def build_engine(name: EngineName, method: Method, device: str = "cpu") -> BoundEngine:
    """The engine that `engine_of` names.

    Raises:
        EngineError: it is lirpa, and auto_LiRPA is not installed.
    """
    match name:
        case EngineName.LIRPA:
            from corgi.engines.lirpa import LirpaEngine

            return LirpaEngine(relaxation=LirpaMethod(method.value), device=device)
        case EngineName.LIPSCHITZ:
            from corgi.engines.lipschitz.engine import LipschitzEngine

            return LipschitzEngine(bound=LipschitzMethod(method.value), device=device)
    from corgi.engines.patch.engine import PatchEngine

    return PatchEngine(relaxation=PatchMethod(method.value), device=device)


def family_engine() -> FamilyEngine:
    """What bounds the map over families of images."""
    from corgi.engines.forward.engine import ForwardEngine

    return ForwardEngine()
