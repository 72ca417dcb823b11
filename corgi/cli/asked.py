"""What to verify and how, as options: every command that verifies has them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from corgi.attack.search import AttackOptions
from corgi.certify.exact import ExactOptions
from corgi.certify.verify import VerifyOptions
from corgi.cli import common
from corgi.cli.groups import with_group
from corgi.data.preprocess import Recipe
from corgi.engines.interface import BoundEngine
from corgi.engines.lirpa import LirpaEngine
from corgi.engines.patch.engine import PatchEngine
from corgi.errors import UsageError
from corgi.lipschitz.engine import LipschitzEngine
from corgi.terms import AttackKind, Form, LipschitzMethod, LirpaMethod, PatchMethod
from corgi.types import Norm


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


def build_engine(name: EngineName | None, method: Method | None, form: Form, device: str) -> BoundEngine:
    """The engine a user asked for; without a name, the first that has the method.

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
    match name:
        case EngineName.LIRPA:
            return LirpaEngine(relaxation=LirpaMethod(method.value), device=device)
        case EngineName.LIPSCHITZ:
            return LipschitzEngine(bound=LipschitzMethod(method.value), device=device)
    return PatchEngine(relaxation=PatchMethod(method.value), device=device)


@dataclass(frozen=True)
class Asked:
    """What the options say.

    Attributes:
        options: what to verify and how.
        preprocess: recipe for pictures; None takes the model's own.
        device: torch device of the engine.
    """

    options: VerifyOptions
    preprocess: str | None
    device: str

    def parameters(self) -> dict[str, Any]:
        """What the answer depends on beside model, image and code: equal if and only if the question is."""
        options = self.options
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


def _asked(
    k: common.KOption = "15",
    k2: common.K2Option = None,
    class_id: common.ClassOption = None,
    norm: common.NormOption = Norm.LINF,
    eps: Annotated[
        float | None, typer.Option(help="Decide this radius, pixel scale [0, 1].", show_default="search")
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(
            help="Bounds alone, exact decisions, or Lipschitz constants (lipschitz: the tightest of them).",
            show_default="exact; crown where it cannot be",
        ),
    ] = None,
    gap: Annotated[
        float, typer.Option(help="Of exact: stop where witness and certificate are this close, relative.")
    ] = ExactOptions.gap,
    engine: Annotated[
        EngineName | None,
        typer.Option(help="Bounding engine.", show_default="the first that has the method"),
    ] = None,
    form: Annotated[Form, typer.Option(help="Linear forms to bound.")] = Form.PAIRWISE,
    attack: Annotated[bool, typer.Option("--attack/--no-attack", help="Look for a witness first.")] = True,
    attack_kind: Annotated[AttackKind, typer.Option(help="Which attack.")] = AttackKind.MARGIN,
    label: Annotated[
        bool, typer.Option("--label", help="Certify the predicted class, too, and both together.")
    ] = False,
    keep_label: Annotated[
        bool, typer.Option("--keep-label", help="A witness must keep the predicted class.")
    ] = False,
    time_limit: Annotated[
        float | None,
        typer.Option(
            help="Seconds; then the best until then. Looked at between bound evaluations.",
            show_default="none",
        ),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Relative width at which the search stops.")] = 0.01,
    device: Annotated[str, typer.Option(help="Torch device of the engine.")] = "cpu",
    seed: Annotated[int, typer.Option(min=0, help="Of the attack's random starts.")] = 0,
    preprocess: common.PreprocessOption = None,
) -> Asked:
    options = VerifyOptions(
        k=common.parse_k(k),
        k2=k2,
        class_id=class_id,
        norm=norm,
        eps=eps,
        engine=build_engine(engine, method, form, common.check_device(device)),
        form=form,
        exact=ExactOptions(gap=gap) if decides_exactly(engine, method, form) else None,
        attack=AttackOptions(kind=attack_kind, keep_label=keep_label, seed=seed) if attack else None,
        tolerance=tolerance,
        time_limit=time_limit,
        label=label,
    )
    return Asked(options, preprocess, device)


with_asked = with_group("asked", _asked)
"""A command with a parameter `asked: Asked`, as typer sees it: with the options instead."""
