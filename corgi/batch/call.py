"""A whole batch in one call: open the store, start the workers, compute the rows that are not there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from corgi.batch.cluster import Cluster
from corgi.batch.code import code_version
from corgi.batch.items import annotated
from corgi.batch.question import Digests, Question
from corgi.batch.run import Tally, compute_rows, forget_failures
from corgi.batch.store import CRASHED, ERROR, FAILED, Item, Setting, Store
from corgi.batch.work import Work, Worker, local_worker
from corgi.errors import UsageError, encodable, printable
from corgi.reporting.case import Case, read_answer
from corgi.reporting.summary import AccuracyCurve, Decided, accuracy_curve
from corgi.reporting.versions import installed_versions


@dataclass(frozen=True)
class BatchResult:
    """What a batch did.

    Attributes:
        store: where the rows are.
        tally: how many were computed, by whom.
        statuses: how the images asked for ended: how many how.
        decided: what is known of them at each of the radii or sizes that were to be decided.
        curve: the same at all of them; None where none were to be decided, or there is no answer.
    """

    store: Path
    tally: Tally
    statuses: Counter[str]
    decided: tuple[Decided, ...] = ()
    curve: AccuracyCurve | None = None

    @property
    def in_words(self) -> str:
        """How many images ended how, and who computed them."""
        tally, kinds = self.tally, sorted(self.statuses.items())
        ended = ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in kinds)
        others = f", {tally.elsewhere} by others meanwhile" if tally.elsewhere else ""
        return (
            f"{tally.total} images: {ended}\n{tally.computed} computed now, {tally.before} before{others};"
            f" store {self.store}"
        )

    @property
    def complete(self) -> bool:
        """Whether every image has an answer."""
        return not any(self.statuses[status] for status in (FAILED, ERROR, CRASHED))


def run_batch(
    model: Path,
    items: Sequence[Item],
    store: Path,
    question: Question | None = None,
    *,
    retry: bool = False,
    workers: int | None = None,
    ray: str | None = None,
    command: str = "",
    on_progress: Callable[[Tally], None] = lambda _: None,
    on_wait: Callable[[str], None] = lambda _: None,
) -> BatchResult:
    """Certify the maps of many images, one row each in a store; rows that are there are not computed again.

    Rows written before an error or Ctrl-C stay, and the same call goes on from them.

    Args:
        model: the model file.
        items: the images (`corgi.batch.items`).
        store: the file of rows, made if it is missing.
        question: what to verify, and how model and images are read.
        retry: try images again that failed or crashed.
        workers: images computed at once, each in a process; None for one a core, or one on a GPU.
        ray: address of a Ray cluster to compute on; None for this machine.
        command: how the call is named in the store.
        on_progress: told how far it is.
        on_wait: told when another process keeps the store locked.

    Raises:
        UsageError, ModelError, EngineError: the question cannot be asked of the model; or more workers than
            the cluster has cores.
        StoreError: the store cannot be read or written.
        WorkerError: no worker can start.
    """
    question = question or Question()
    items = annotated(items, question.annotated_by)
    network = question.loading.load(model)
    # In this order: a file that changes in between is another one than the workers are told of.
    digests, parameters = question.digests(), question.parameters()
    with ExitStack() as stack:
        cluster = None if ray is None else Cluster(ray)
        if cluster is not None:
            stack.callback(cluster.close)
        cores = len(os.sched_getaffinity(0)) if cluster is None else cluster.cores
        count = workers or (max(1, cores) if parameters.get("device", "cpu") == "cpu" else 1)
        if cluster is not None and count > cores:
            raise UsageError(f"--workers {count}: the cluster has {cores} cores")
        work = _work(question, model, network.sha256, max(1, cores // count), digests)
        opened = stack.enter_context(Store(store, create=True, on_wait=on_wait))
        setting = opened.setting(network.sha256, encodable(str(model)), parameters, work.code)
        opened.forget_others(setting, items)
        forget_failures(opened, setting, items, retry=retry)
        run = opened.begin_run(setting, printable(command), count, work.threads, installed_versions())
        start: Callable[[Work], Worker] = local_worker if cluster is None else cluster.worker
        started = [start(work) for _ in range(min(count, len(items)))]
        tally = compute_rows(opened, setting, run, items, started, on_progress)
        ended = opened.statuses(setting)
        wanted = {item.sha256 for item in items}
        counts = Counter(ended[digest] for digest in wanted if digest in ended)
        asked = question.radii or question.change
        curve = accuracy_curve(_cases(opened, setting, wanted)) if asked else None
        return BatchResult(store, tally, counts, () if curve is None else curve.decided, curve)


def _cases(store: Store, setting: Setting, wanted: Container[str]) -> list[Case]:
    """The rows of some images, for figures."""
    found = []
    for row in store.rows(setting):
        item, answer = row.item, row.answer
        if item.sha256 in wanted:
            document = answer.document and read_answer(answer.document)
            shown = (item.name, item.content, item.true_class)
            found.append(Case(row.id, *shown, answer.status, answer.reason, None, document or None))
    return found


def _work(
    question: Question,
    model: Path,
    sha256: str,
    threads: int,
    digests: Digests,
) -> Work:
    return Work(
        load=partial(question.loading.load, model.absolute()),
        model_sha256=sha256,
        code=code_version(),
        folder=Path.cwd(),
        question=question.absolute(),
        digests=digests,
        threads=threads,
    )
