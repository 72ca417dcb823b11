"""`corgi attack`: the closest image an attack finds whose map has other largest pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from corgi.cli import common
from corgi.cli.exits import Exit
from corgi.cli.loading import Loading, with_loading
from corgi.terms import PICTURE_FORMATS, AttackKind, Norm

if TYPE_CHECKING:
    from corgi.attacks.target import Target
    from corgi.certify.explain import Explanation
    from corgi.network.network import Network
    from corgi.results import EmpiricalBound


@with_loading
def command(
    model: common.ModelArgument,
    image: common.ImageArgument,
    k: common.KOption = "15",
    k2: common.K2Option = None,
    class_id: common.ClassOption = None,
    norm: common.NormOption = Norm.LINF,
    eps: Annotated[
        float | None, typer.Option(help="Attack this radius only, pixel scale [0, 1].", show_default="search")
    ] = None,
    attack_kind: Annotated[AttackKind, typer.Option("--kind", "--attack-kind", help="Which attack.")] = (
        AttackKind.MARGIN
    ),
    keep_label: Annotated[
        bool, typer.Option("--keep-label", help="A witness must keep the predicted class.")
    ] = False,
    time_limit: common.TimeLimitOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random starts.")] = 0,
    preprocess: common.PreprocessOption = None,
    *,
    loading: Loading,
    json: common.JsonOption = None,
    picture_file: common.PictureOption = None,
    witness: common.WitnessOption = None,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> int:
    """Look for the closest image to IMAGE whose map has other largest pixels: an upper bound, no guarantee.

    Exit code: 0 a witness was found (1 with --eps: refuted), 2 none was found, 3 Ctrl-C, 4 error.
    """
    common.check_ending("--picture", picture_file, PICTURE_FORMATS)
    common.check_ending("--witness", witness, ("npy",))
    common.check_outputs((model, image), {"--json": json, "--picture": picture_file, "--witness": witness})
    ranks = common.parse_k(k)
    import torch

    from corgi.attacks.search import AttackInterrupted, AttackOptions, attack_radius
    from corgi.certify.explain import explain
    from corgi.certify.verify import check_radius
    from corgi.reporting.document import attack_document, to_json
    from corgi.reporting.text import attack_text
    from corgi.reporting.versions import installed_versions

    check_radius("--eps", eps, norm)
    options = AttackOptions(kind=attack_kind, keep_label=keep_label, seed=seed)
    interrupted = False
    with common.working("loading", quiet=quiet, seconds=time_limit) as listener:
        network, pixels = common.read_input(loading, model, image, preprocess)
        explanation = explain(network, pixels, ranks, class_id)
        k2 = explanation.top.k if k2 is None else k2
        target = _target(explanation.network, explanation, k2, keep_label)
        try:
            found = attack_radius(
                target,
                torch.from_numpy(pixels),
                options,
                rounding=explanation.rounding,
                norm=norm,
                only=eps,
                listener=listener,
            )
        except AttackInterrupted as stop:
            found, interrupted = stop.found, True
    document = attack_document(
        network,
        str(image),
        explanation,
        found,
        k2=k2,
        norm=norm,
        eps=eps,
        seed=seed,
        versions=installed_versions(),
    )
    common.emit(attack_text(document), lambda: to_json(document), json, quiet=quiet)
    common.save_witness(found, witness, quiet=quiet)
    if picture_file is not None:
        from corgi.reporting.picture import attack_picture

        name = network.class_name(explanation.class_id)
        common.save_picture(attack_picture(pixels, explanation, k2, name, found), picture_file)
    return Exit.TIME_LIMIT if interrupted else _exit(found, eps)


def _target(network: Network, explanation: Explanation, k2: int, keep_label: bool) -> Target:
    from corgi.attacks.target import Target
    from corgi.cam.topk import check_ranks

    check_ranks(explanation.top.k, k2, network.pixels)
    return Target(
        network.trunk32,
        network,
        explanation.class_id,
        explanation.top,
        k2,
        keep_label,
        explanation.predicted_class,
    )


def _exit(found: EmpiricalBound, eps: float | None) -> Exit:
    if found.witness is None:
        return Exit.UNKNOWN
    return Exit.OK if eps is None else Exit.REFUTED
