"""Decide by branch and bound with batched backward linear bounds (beta-CROWN, Wang et al. 2021).

A sub-problem allows each undecided window some of its live elements as maximum. Where an element e is
excluded, y_w >= element e still holds, so for every multiplier beta >= 0

    margin >= margin - sum beta_we (y_w - element_we),

and the right side is bounded backward through the cone: windows with one allowed element are equal to it,
others are replaced by their planes, lower ones as convex combinations alpha of the allowed elements. Any
alpha and beta are sound; good ones are found by gradient, each sub-problem beginning with its parent's.

Several margins are joined into one, their convex combination by further multipliers: where all are <= 0, so
is that.

Rounding: the bound is  a . d + m . y + total - error  for the computed coefficients at every layer, as in
patch/backward.py, and what a product of matrices may be off by is added to `error` against the size of what
it reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from corgi.budget import left
from corgi.decide.decider import Counterexample, Minimum, Proved, Undecided, Verdict
from corgi.decide.tree import TreeDecider
from corgi.engines.cone import Cone
from corgi.engines.patch.alpha import convex
from corgi.engines.rigour import gamma


@dataclass(frozen=True)
class BranchAndBound:
    """Best first, in batches; branches on the window whose planes lose most.

    It may give up where the tree does not: its gradients need not find the best multipliers, and it tries
    corners of the box only.

    Attributes:
        batch: sub-problems bounded at once.
        iterations: gradient steps of each; rate: of Adam.
    """

    batch: int = 128
    iterations: int = 12
    rate: float = 0.1

    @property
    def name(self) -> str:
        """Name, for results."""
        return "branch-and-bound"

    def minimum(self, cone: Cone) -> Minimum:
        """That of the tree: sub-problems of this one have no bound but a sign."""
        return TreeDecider().minimum(cone)

    def decide(self, cone: Cone, most: int) -> Verdict:
        """Decide the margins of a cone (see `Decider.decide`)."""
        problems = _Padded(cone)
        front = _Problems.root(problems)
        nodes, tied, least = 0, False, float("inf")
        while len(front):
            if nodes >= most or left() <= 0:
                return Undecided("budget spent", nodes)
            some, front = front.split(self.batch)
            nodes += len(some)
            solved, bounds, points, losses = problems.optimised(some, self.iterations, self.rate)
            margins = cone.largest(points)
            worst = int(margins.argmin())
            if float(margins[worst]) < 0:
                return Counterexample(points[worst], float(margins[worst]), nodes)
            proved = bounds > 0
            least = min(least, float(bounds[proved].min()) if bool(proved.any()) else least)
            rest = (~proved).nonzero().reshape(-1)
            losses = losses[rest].masked_fill(solved.allowed[rest].sum(-1) <= 1, -torch.inf)
            decided = (losses == -torch.inf).all(1)
            tied = tied or bool(decided.any())
            rest, losses = rest[~decided], losses[~decided]
            if len(rest):
                children = solved.chosen(rest).children(losses.argmax(1), problems.live)
                front = children.joined(front)
        if tied:
            return Undecided("gradients left a part open in which every maximum is fixed", nodes)
        return Proved(least, nodes)


@dataclass(frozen=True)
class _Problems:
    """N sub-problems.

    Attributes:
        allowed: elements that may be the maximum, bool [N, windows, E].
        alpha: convex combinations of them; beta: >= 0, of excluded ones; both [N, windows, E].
        share: of the margins, convex, [N, P].
        bound: of the parent, [N].
    """

    allowed: Tensor
    alpha: Tensor
    beta: Tensor
    share: Tensor
    bound: Tensor

    def __len__(self) -> int:
        return len(self.bound)

    @staticmethod
    def root(padded: _Padded) -> _Problems:
        """The whole ball."""
        margins = len(padded.cone.constant)
        return _Problems(
            padded.live[None],
            padded.low[None],
            torch.zeros_like(padded.low)[None],
            torch.full((1, margins), 1 / margins, dtype=torch.float64),
            torch.full((1,), -torch.inf, dtype=torch.float64),
        )

    def chosen(self, which: Tensor) -> _Problems:
        """Some of them."""
        parts = (self.allowed, self.alpha, self.beta, self.share, self.bound)
        return _Problems(*(part[which] for part in parts))

    def joined(self, other: _Problems) -> _Problems:
        """These, then others."""
        mine = (self.allowed, self.alpha, self.beta, self.share, self.bound)
        theirs = (other.allowed, other.alpha, other.beta, other.share, other.bound)
        return _Problems(*(torch.cat(pair) for pair in zip(mine, theirs, strict=True)))

    def split(self, count: int) -> tuple[_Problems, _Problems]:
        """The `count` with the smallest bounds, and the rest."""
        order = self.bound.argsort()
        return self.chosen(order[:count]), self.chosen(order[count:])

    def children(self, windows: Tensor, live: Tensor) -> _Problems:
        """For each problem and each element its window may still have as maximum: that element fixed."""
        rows = torch.arange(len(self))
        problem, element = self.allowed[rows, windows].nonzero(as_tuple=True)
        copies = self.chosen(problem)
        at = torch.arange(len(problem)), windows[problem]
        allowed, alpha = copies.allowed.clone(), copies.alpha.clone()
        allowed[at] = torch.nn.functional.one_hot(element, live.shape[-1]).bool()
        alpha[at] = allowed[at].to(alpha.dtype)
        return replace(copies, allowed=allowed, alpha=alpha)


class _Padded:
    """A cone with all layers' windows in tensors of one width."""

    def __init__(self, cone: Cone) -> None:
        self.cone = cone
        elements = max((layer.live.shape[1] for layer in cone.layers), default=1)

        def stacked(name: str) -> Tensor:
            parts = [getattr(layer, name) for layer in cone.layers]
            padded = [torch.nn.functional.pad(part, (0, elements - part.shape[1])) for part in parts]
            return torch.cat(padded) if padded else torch.zeros(0, elements, dtype=torch.float64)

        self.live = stacked("live").bool()
        self.low, self.up, self.lead = stacked("low"), stacked("up"), stacked("lead")
        empty = torch.zeros(0, dtype=torch.float64)
        self.up_shift = torch.cat([empty, *(layer.up_shift for layer in cone.layers)])
        self.slack = torch.cat([empty, *(layer.slack for layer in cone.layers)])
        self.middle, self.half = (cone.upper + cone.lower) / 2, (cone.upper - cone.lower) / 2
        self.size = torch.maximum(cone.lower.abs(), cone.upper.abs())
        ends = [torch.maximum(layer.lower.abs(), layer.upper.abs()) for layer in cone.layers]
        self.window_size = torch.cat([empty, *ends])
        # How large the terms of each element's row can be in the ball, and of each margin's.
        self.reach = [
            layer.image.abs() @ self.size + layer.earlier.abs() @ self.window_size[: layer.start]
            for layer in cone.layers
        ]
        # What one unit of beta stands for: by how much the margins can depend on each window.
        slope = cone.windows.abs().amax(0)
        for layer in reversed(cone.layers):
            at = slice(layer.start, layer.start + len(layer))
            here = slope[at][layer.window][:, None] * layer.earlier.abs()
            if len(here):
                slope = torch.cat([torch.maximum(slope[: layer.start], here.amax(0)), slope[layer.start :]])
        self.slope = slope
        self.margin_reach = cone.image.abs() @ self.size + cone.windows.abs() @ self.window_size

    def bound(self, problems: _Problems) -> tuple[Tensor, Tensor, Tensor]:
        """Lower bounds [N], coefficients on the pixels [N, pixels], what planes may lose [N, windows]."""
        cone, share = self.cone, problems.share
        image, windows = share @ cone.image, share @ cone.windows
        total = (share * cone.constant).sum(1)
        few = gamma(len(cone.constant) + 4, torch.float64)
        error = few * (share * (cone.constant.abs() + self.margin_reach)).sum(1)
        excluded = self.live & ~problems.allowed
        beta = torch.where(excluded, problems.beta, 0)
        single = problems.allowed.sum(-1) == 1
        losses = []
        for number in reversed(range(len(cone.layers))):
            layer = cone.layers[number]
            at = slice(layer.start, layer.start + len(layer))
            weight, own = windows[:, at] - beta[:, at].sum(-1), beta[:, at]
            # The subtraction is rounded, on windows of that size.
            count = own.shape[-1] + 2
            rounded = gamma(count, torch.float64) * (windows[:, at].abs() + own.sum(-1))
            error = error + (rounded * self.window_size[at]).sum(1)
            below = (weight >= 0) | single[:, at]
            planes = torch.where(below[:, :, None], problems.alpha[:, at], self.up[at])
            leads = (problems.alpha[:, at] * self.lead[at]).sum(-1)
            shift = torch.where(below, leads, self.up_shift[at])
            # `slack` holds what combinations that do not quite sum to 1 may lose, on either side.
            error = error + (weight.abs() * (self.slack[at] + 2.0**-50 * shift.abs())).sum(1)
            constants = weight * shift + (own * self.lead[at]).sum(-1)
            total = total + constants.sum(1)
            amounts = weight.abs() * shift.abs() + (own * self.lead[at].abs()).sum(-1)
            error = error + gamma(len(layer) + count + 4, torch.float64) * (amounts.sum(1) + total.abs())
            rows = (weight[:, :, None] * planes + own)[:, layer.window, layer.element]
            image = image + rows @ layer.image
            earlier = windows[:, : layer.start] + rows @ layer.earlier
            windows = torch.cat([earlier, windows[:, layer.start :]], 1)
            terms = gamma(len(layer.window) + 8, torch.float64)
            error = error + rows.abs() @ (layer.error + terms * self.reach[number])
            known = image.abs() @ self.size + earlier.abs() @ self.window_size[: layer.start]
            error = error + 2.0**-51 * known
            gap = torch.where(below, leads.abs(), self.up_shift[at].abs())
            losses.append((weight.abs() * gap).detach())
        least = image @ self.middle - image.abs() @ self.half
        few = gamma(2 * len(self.size) + 8, torch.float64)
        error = error + few * (image.abs() @ self.size) + 2.0**-50 * total.abs()
        lost = torch.cat(losses[::-1], 1) if losses else windows.detach()
        return total + least - 1.01 * error, image, lost

    def optimised(
        self, problems: _Problems, iterations: int, rate: float
    ) -> tuple[_Problems, Tensor, Tensor, Tensor]:
        """The best multipliers met, the bounds they give, the points that take them, what planes lose."""
        alpha, beta, share = (
            value.clone().requires_grad_(True) for value in (problems.alpha, problems.beta, problems.share)
        )
        variables = [alpha, beta, share]
        optimizer = torch.optim.Adam(variables, lr=rate)
        best = torch.full_like(problems.bound, -torch.inf)
        kept = [value.detach().clone() for value in variables]
        point = self.middle.expand(len(problems), -1).clone()
        lost = torch.zeros_like(alpha[:, :, 0]).detach()
        excluded = self.live & ~problems.allowed
        for step in range(iterations + 1):
            with torch.enable_grad():
                trial = replace(problems, alpha=alpha, beta=beta * self.slope[:, None], share=share)
                found, image, losses = self.bound(trial)
                loss = -found[torch.isfinite(found)].sum()
            better = found.detach() > best
            best = torch.where(better, found.detach(), best)
            for mine, value in zip(kept, variables, strict=True):
                mine[better] = value.detach()[better]
            corner = torch.where(image.detach() > 0, self.cone.lower, self.cone.upper)
            point[better], lost[better] = corner[better], losses[better]
            if step == iterations or bool((best > 0).all()) or not loss.requires_grad:
                break
            gradients = torch.autograd.grad(loss, variables, allow_unused=True)
            for value, gradient in zip(variables, gradients, strict=True):
                value.grad = gradient
            optimizer.step()
            with torch.no_grad():
                flat = alpha.reshape(-1, alpha.shape[-1])
                alpha.copy_(convex(flat, problems.allowed.reshape(flat.shape)).reshape(alpha.shape))
                beta.copy_(torch.where(excluded, beta.clamp(min=0), 0))
                share.copy_(convex(share, torch.ones_like(share, dtype=torch.bool)))
        best = best * (1 - 2.0**-40)  # shares that sum to a little more than 1
        solved = replace(problems, alpha=kept[0], beta=kept[1], share=kept[2], bound=best)
        return solved, best, point, lost
