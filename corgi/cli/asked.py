"""What to verify and how, as options: every command that verifies has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from corgi.certify.methods import build_engine, decides_exactly, engine_of
from corgi.cli import common
from corgi.cli.groups import with_group
from corgi.cli.radius import radius_option
from corgi.data.where import WantedWhere
from corgi.terms import GAP, AttackKind, EngineName, Form, Method, Norm

if TYPE_CHECKING:
    from corgi.certify.verify import VerifyOptions


@dataclass(frozen=True)
class Asked:
    """What the options say; each field is an option. Refuses, before torch loads, what it can.

    Raises:
        UsageError: see `engine_of` and `WantedWhere`; or `--k` is no number.
    """

    k: common.KOption = None
    class_id: common.ClassOption = None
    norm: common.NormOption = Norm.LINF
    where: common.WhereOption = None
    eps: Annotated[
        float | None,
        radius_option(help="Decide this radius, pixel scale [0, 1]; as 1/255.", show_default="search"),
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

    def __post_init__(self) -> None:
        common.parse_k(self.k)
        if self.where is not None:
            WantedWhere(self.where)
        engine_of(self.engine, self.method, self.form)

    def options(self) -> VerifyOptions:
        """What to verify and how, but for what takes the picture.

        Raises:
            UsageError: a value cannot be, or the device cannot be used.
            EngineError: see `build_engine`.
        """
        from corgi.attacks.search import AttackOptions
        from corgi.certify.verify import VerifyOptions
        from corgi.decide.ball import ExactOptions

        attack = AttackOptions(kind=self.attack_kind, keep_label=self.keep_label, seed=self.seed)
        exact = decides_exactly(self.engine, self.method, self.form)
        engine, method = engine_of(self.engine, self.method, self.form)
        return VerifyOptions(
            k=common.parse_k(self.k),
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


with_asked = with_group("asked", Asked)
"""A command with a parameter `asked: Asked`, as typer sees it: with the options instead."""
