"""What to verify and how, as options: every command that verifies has them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corgi.cli import common
from corgi.cli.groups import with_group
from corgi.errors import UsageError
from corgi.terms import GAP, AttackKind, Form, LipschitzMethod, LirpaMethod, Norm, PatchMethod

if TYPE_CHECKING:
    from corgi.certify.verify import VerifyOptions
    from corgi.engines.interface import BoundEngine


class EngineName(StrEnum):
    """The bounding engines a user can choose."""

    PATCH = "patch"
    LIRPA = "lirpa"
    LIPSCHITZ = "lipschitz"


class Method(StrEnum):
    """All ways to certify: relaxations from fast and loose to slow and tight, then Lipschitz constants."""

    IBP = "ibp"
    CROWN_IBP = "crown-ibp"
    CROWN = "crown"
    ALPHA_CROWN = "alpha-crown"
    FOCUS = "focus"
    EXACT = "exact"
    LIPSCHITZ = "lipschitz"
    LIPSCHITZ_NORMS = "lipschitz-norms"
    LIPSCHITZ_INTERVALS = "lipschitz-intervals"
    LIPSCHITZ_ROWS = "lipschitz-rows"


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


def build_engine(name: EngineName, method: Method, device: str) -> BoundEngine:
    """The engine that `engine_of` names.

    Raises:
        EngineError: it is lirpa, and auto_LiRPA is not installed.
    """
    match name:
        case EngineName.LIRPA:
            from corgi.engines.lirpa import LirpaEngine

            return LirpaEngine(relaxation=LirpaMethod(method.value), device=device)
        case EngineName.LIPSCHITZ:
            from corgi.lipschitz.engine import LipschitzEngine

            return LipschitzEngine(bound=LipschitzMethod(method.value), device=device)
    from corgi.engines.patch.engine import PatchEngine

    return PatchEngine(relaxation=PatchMethod(method.value), device=device)


@dataclass(frozen=True)
class Asked:
    """What the options say; each field is an option. Refuses, before torch loads, what it can.

    Raises:
        UsageError: see `engine_of`; or `--k` is no number.
    """

    k: common.KOption = "15"
    k2: common.K2Option = None
    class_id: common.ClassOption = None
    norm: common.NormOption = Norm.LINF
    eps: Annotated[
        float | None, typer.Option(help="Decide this radius, pixel scale [0, 1].", show_default="search")
    ] = None
    method: Annotated[
        Method | None,
        typer.Option(
            help="Bounds alone, exact decisions, or Lipschitz constants (lipschitz: the tightest of them).",
            show_default="exact; crown where it cannot be",
        ),
    ] = None
    gap: Annotated[
        float, typer.Option(help="Of exact: stop where witness and certificate are this close, relative.")
    ] = GAP
    engine: Annotated[
        EngineName | None,
        typer.Option(help="Bounding engine.", show_default="the first that has the method"),
    ] = None
    form: Annotated[Form, typer.Option(help="Linear forms to bound.")] = Form.PAIRWISE
    attack: Annotated[bool, typer.Option("--attack/--no-attack", help="Look for a witness first.")] = True
    attack_kind: Annotated[AttackKind, typer.Option(help="Which attack.")] = AttackKind.MARGIN
    label: Annotated[
        bool, typer.Option("--label", help="Certify the predicted class, too, and both together.")
    ] = False
    keep_label: Annotated[
        bool, typer.Option("--keep-label", help="A witness must keep the predicted class.")
    ] = False
    time_limit: common.TimeLimitOption = None
    tolerance: Annotated[float, typer.Option(help="Relative width at which the search stops.")] = 0.01
    device: Annotated[str, typer.Option(help="Torch device of the engine.")] = "cpu"
    seed: Annotated[int, typer.Option(min=0, help="Of the attack's random starts.")] = 0
    preprocess: common.PreprocessOption = None

    def __post_init__(self) -> None:
        common.parse_k(self.k)
        engine_of(self.engine, self.method, self.form)

    def options(self) -> VerifyOptions:
        """What to verify and how.

        Raises:
            UsageError: a value cannot be, or the device cannot be used.
            EngineError: see `build_engine`.
        """
        from corgi.attack.search import AttackOptions
        from corgi.certify.exact import ExactOptions
        from corgi.certify.verify import VerifyOptions

        attack = AttackOptions(kind=self.attack_kind, keep_label=self.keep_label, seed=self.seed)
        exact = decides_exactly(self.engine, self.method, self.form)
        engine, method = engine_of(self.engine, self.method, self.form)
        return VerifyOptions(
            k=common.parse_k(self.k),
            k2=self.k2,
            class_id=self.class_id,
            norm=self.norm,
            eps=self.eps,
            engine=build_engine(engine, method, common.check_device(self.device)),
            form=self.form,
            exact=ExactOptions(gap=self.gap) if exact else None,
            attack=attack if self.attack else None,
            tolerance=self.tolerance,
            time_limit=self.time_limit,
            label=self.label,
        )

    def parameters(self) -> dict[str, Any]:
        """What the answer depends on beside model, image and code: equal if and only if the question is."""
        from corgi.data.preprocess import Recipe

        options = self.options()
        attack = options.attack
        return {
            "k": "auto" if options.k is None else options.k,
            "k2": options.k2,
            "class": options.class_id,
            "norm": options.norm.value,
            "eps": options.eps,
            "method": options.engine.method if options.exact is None else Method.EXACT.value,
            "gap": None if options.exact is None else options.exact.gap,
            "engine": options.engine.name,
            "form": options.form.value,
            "attack": None if attack is None else attack.kind.value,
            "keep_label": attack is not None and attack.keep_label,
            "seed": None if attack is None else attack.seed,
            "label": options.label,
            "time_limit": options.time_limit,
            "tolerance": options.tolerance,
            "device": self.device,
            "preprocess": None if self.preprocess is None else str(Recipe.parse(self.preprocess)),
        }


with_asked = with_group("asked", Asked)
"""A command with a parameter `asked: Asked`, as typer sees it: with the options instead."""
