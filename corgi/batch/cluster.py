"""Workers as actors of a Ray cluster (https://docs.ray.io), for more than one machine.

Model and images are read where the worker runs: by the same paths, from a file system all machines share.
Their digests are compared, so another file under the same name is no answer. The store stays with the run.
"""

from __future__ import annotations

import importlib
from concurrent.futures import Future
from typing import Any

from corgi.batch.store import Item
from corgi.batch.work import Answerer, Found, Work
from corgi.errors import UsageError


class Cluster:
    """A connection to a Ray cluster; `local` starts one on this machine.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str) -> None:
        try:
            self._ray = importlib.import_module("ray")
        except ImportError:
            raise UsageError("--ray: Ray is not installed", hint="pip install 'corgi[ray]'") from None
        try:
            self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError and its own
            reason = str(error).strip().partition("\n")[0]
            raise UsageError(
                f"--ray {address}: no cluster there ({reason})", hint="Try auto, local or HOST:PORT."
            ) from error

    @property
    def cores(self) -> int:
        """Cores of the whole cluster."""
        return int(self._ray.cluster_resources().get("CPU", 0))

    def worker(self, work: Work) -> RayWorker:
        """A worker on `work.threads` cores somewhere in the cluster."""
        return RayWorker(self._ray, work)

    def close(self) -> None:
        """Disconnect; what `local` started ends, too."""
        self._ray.shutdown()


class RayWorker:
    """An actor."""

    def __init__(self, ray: Any, work: Work) -> None:
        self._ray, self.work = ray, work
        errors = ray.exceptions
        self.died: tuple[type[BaseException], ...] = (
            errors.RayActorError,
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
        )
        self.restart()

    def restart(self) -> None:
        """A new actor. Ray itself must not start it anew: who dies twice over an image is to be noticed."""
        actor = self._ray.remote(Answerer).options(num_cpus=self.work.threads, max_restarts=0)
        self._actor = actor.remote(self.work)
        self._start: Future[Any] = self._actor.start.remote().future()

    @property
    def started(self) -> bool:
        """Whether the actor lived until the network was loaded."""
        return self._start.done() and self._start.exception() is None

    def submit(self, item: Item) -> Future[Found]:
        """Begin with an image."""
        settled: Future[Found] = Future()

        def settle(future: Future[Found]) -> None:
            error = future.exception()
            if error is None:
                settled.set_result(future.result())
            else:  # an error of the worker comes wrapped, with the text of its traceback as message
                settled.set_exception(getattr(error, "cause", None) or error)

        self._actor.answer.remote(item).future().add_done_callback(settle)
        return settled

    def close(self) -> None:
        """End the actor."""
        self._ray.kill(self._actor)
