"""What a batch asks of every image, and its parameters: equal if and only if the question is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from corgi.attacks.search import AttackOptions
from corgi.certify.shares import check_radii
from corgi.certify.verify import VerifyOptions
from corgi.data.preprocess import Recipe
from corgi.data.where import WantedWhere
from corgi.decide.ball import ExactOptions
from corgi.errors import UsageError
from corgi.network.loading import Loading
from corgi.terms import Method
from corgi.wanted import WantedProperty


def annotation_of(wanted: WantedProperty, where: WantedWhere | None, picture: Path) -> str | None:
    """The digest of all that annotates a picture and is part of what is asked; None where nothing is."""
    said = [wanted.annotated_by(picture), None if where is None else where.annotated_by(picture)]
    found = [digest for digest in said if digest is not None]
    return None if not found else found[0] if len(found) == 1 else sha256("".join(found).encode()).hexdigest()


def digests_of(wanted: WantedProperty, where: WantedWhere | None) -> tuple[str | None, str | None]:
    """Those of the files that are read for every picture alike, by which a batch is named."""
    places = {} if where is None else where.parameters()
    return wanted.parameters().get("region_sha256"), places.get("sha256")


@dataclass(frozen=True)
class Question:
    """What to verify and how, and how model and images are read.

    Attributes:
        options: what to verify and how.
        loading: how the model is read.
        preprocess: recipe for pictures; None for the model's own.
        wanted: what is asked of the map, read anew for every picture; that of the options where it is plain.
        radii: pixel scale, ascending: to be decided besides the search.
        where: what may change, read anew for every picture; None for what the options say.

    Raises:
        UsageError: two properties, or places that may change; or see `check_radii`.
    """

    options: VerifyOptions = field(default_factory=VerifyOptions)
    loading: Loading = field(default_factory=Loading)
    preprocess: str | None = None
    wanted: WantedProperty = field(default_factory=WantedProperty)
    radii: tuple[float, ...] = ()
    where: WantedWhere | None = None

    def __post_init__(self) -> None:
        if self.options.property is not None and not self.wanted.plain:
            raise UsageError(f"property {self.wanted.name} beside that of the options")
        if self.where is not None and self.options.where is not None:
            raise UsageError(f"where {self.where.text} beside that of the options")
        if self.radii:
            check_radii(self.radii, self.options)

    def parameters(self) -> dict[str, Any]:
        """All that an answer depends on beside model, image and code."""
        options, attack, exact = self.options, self.options.attack, self.options.exact
        named = {
            "k": options.k,
            "k2": options.k2,
            "class": options.class_id,
            "norm": options.norm.value,
            "eps": options.eps,
            "method": options.engine.method if exact is None else Method.EXACT.value,
            "gap": None if exact is None else exact.gap,
            "engine": options.engine.name,
            "form": options.form.value,
            "attack": None if attack is None else attack.kind.value,
            "keep_label": attack is not None and attack.keep_label,
            "seed": None if attack is None else attack.seed,
            "label": options.label,
            "time_limit": options.time_limit,
            "tolerance": options.tolerance,
            "device": getattr(options.engine, "device", "cpu"),
            "preprocess": None if self.preprocess is None else str(Recipe.parse(self.preprocess)),
        }
        return named | self._property() | self._where() | self._others() | self.loading.parameters()

    def _property(self) -> dict[str, Any]:
        """What is asked, where it is not that of the set: rows of older stores have none of these names."""
        asked = self.options.property
        wanted = self.wanted.parameters() if asked is None else repr(asked)
        radii = {"radii": list(self.radii)} if self.radii else {}
        return ({"property": wanted} if wanted else {}) | radii

    def _where(self) -> dict[str, Any]:
        """What may change, where that is not everything."""
        if self.where is not None:
            return {"where": self.where.parameters()}
        places = self.options.where
        return {} if places is None else {"where": {"text": places.source, "sha256": places.sha256}}

    def _others(self) -> dict[str, str]:
        """What no name above says, where it is not as by default."""
        options, attack, exact = self.options, self.options.attack, self.options.exact
        engine: Any = options.engine
        named = ("device", *(("relaxation", "bound") if exact is None else ()))
        plain = replace(
            options,
            engine=type(engine)(**{name: getattr(engine, name) for name in named if hasattr(engine, name)}),
            attack=attack and AttackOptions(attack.kind, attack.keep_label, seed=attack.seed),
            exact=exact and ExactOptions(exact.gap),
            max_evaluations=VerifyOptions.max_evaluations,
        )
        return {} if options == plain else {"options": repr(options)}
