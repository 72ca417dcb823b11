"""What a batch asks of every image, and its parameters: equal if and only if the question is."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from corgi.attacks.search import AttackOptions
from corgi.certify.shares import check_radii
from corgi.certify.sweep import SweepOptions
from corgi.certify.verify import VerifyOptions
from corgi.changes.names import usual_of
from corgi.changes.wanted import WantedChange
from corgi.data.preprocess import Recipe
from corgi.data.region import together
from corgi.data.where import WantedWhere
from corgi.decide.ball import ExactOptions
from corgi.errors import UsageError
from corgi.network.loading import Loading
from corgi.terms import Method
from corgi.wanted import WantedProperty

Digests = tuple[str | None, ...]
"""Of the files that are read for every picture alike, by which a batch is named."""


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
        change: along which a property is decided instead of in balls (`corgi sweep`), read anew for every
            picture; of the options it takes k, k2, class, property and time limit. None for balls.
        sizes: of the change, each to be decided; None for its usual one.

    Raises:
        UsageError: two properties, or places that may change; options that a change does not take, sizes
            without one, or see `SweepOptions`; or see `check_radii`.
    """

    options: VerifyOptions = field(default_factory=VerifyOptions)
    loading: Loading = field(default_factory=Loading)
    preprocess: str | None = None
    wanted: WantedProperty = field(default_factory=WantedProperty)
    radii: tuple[float, ...] = ()
    where: WantedWhere | None = None
    change: WantedChange | None = None
    sizes: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.options.property is not None and not self.wanted.plain:
            raise UsageError(f"property {self.wanted.name} beside that of the options")
        if self.where is not None and self.options.where is not None:
            raise UsageError(f"where {self.where.text} beside that of the options")
        if self.radii:
            check_radii(self.radii, self.options)
        if self.change is not None:
            self._check_change(self.change)
        elif self.sizes is not None:
            raise UsageError("sizes: of a change, which is not named")

    def _check_change(self, change: WantedChange) -> None:
        """Refuse what is asked of balls alone."""
        taken = ("k", "k2", "class_id", "property", "time_limit")
        plain = VerifyOptions(**{name: getattr(self.options, name) for name in taken})
        every = (each.name for each in fields(plain))
        others = [name for name in every if getattr(self.options, name) != getattr(plain, name)]
        others += [name for name in ("radii", "where") if getattr(self, name)]
        if others:
            hint = f"Beside a change stand only {', '.join(taken)} and sizes."
            raise UsageError(
                f"change {change.text}: {', '.join(others)}: of balls, not of changes", hint=hint
            )
        _ = self.swept

    @property
    def swept(self) -> SweepOptions:
        """What is decided along the change."""
        options, sizes = self.options, self.sizes
        if sizes is None and self.change is not None:
            sizes = (usual_of(self.change.text),)
        return SweepOptions(
            sizes, options.k, options.k2, options.class_id, options.property, options.time_limit
        )

    def absolute(self) -> Question:
        """The same, wherever it is read: of files the whole paths."""
        where, change = self.where and self.where.absolute(), self.change and self.change.absolute()
        return replace(self, wanted=self.wanted.absolute(), where=where, change=change)

    def annotated_by(self, picture: Path) -> str | None:
        """The digest of all that annotates a picture and is part of what is asked; None where nothing is."""
        asked = (self.wanted, self.where, self.change)
        return together(one.annotated_by(picture) for one in asked if one is not None)

    def digests(self) -> Digests:
        """Those of the files that are read for every picture alike."""
        places, change = (one.parameters() if one else {} for one in (self.where, self.change))
        files = change.get("sha256", ())
        return self.wanted.parameters().get("region_sha256"), places.get("sha256"), *files

    def parameters(self) -> dict[str, Any]:
        """All that an answer depends on beside model, image and code."""
        named = self._of_balls() if self.change is None else self._of_change(self.change)
        named["preprocess"] = None if self.preprocess is None else str(Recipe.parse(self.preprocess))
        return named | self._property() | self._where() | self._others() | self.loading.parameters()

    def _of_change(self, change: WantedChange) -> dict[str, Any]:
        """What a sweep depends on."""
        options = self.options
        return {
            "change": change.parameters(),
            "sizes": list(self.swept.ascending),
            "k": options.k,
            "k2": options.k2,
            "class": options.class_id,
            "time_limit": options.time_limit,
        }

    def _of_balls(self) -> dict[str, Any]:
        """What `verify` depends on."""
        options, attack, exact = self.options, self.options.attack, self.options.exact
        return {
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
        }

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
