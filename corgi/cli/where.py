"""Where an image may change, from the options of a command about one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from corgi.budget import announce
from corgi.data.where import WantedWhere

if TYPE_CHECKING:
    from corgi.cli.task import Task
    from corgi.data.window import Window
    from corgi.network.network import Network
    from corgi.types import Where


def where_of(text: str | None, network: Network, task: Task) -> Where | None:
    """Where a task's image may change; None for everywhere.

    Raises:
        UsageError, ImageError, DataError: see `WantedWhere.read`.
    """
    return None if text is None else where_seen(text, network, task.window(network), task.image)


def where_seen(text: str | None, network: Network, window: Window, image: Path) -> Where | None:
    """The same of an image of which the network sees a part."""
    if text is None:
        return None
    found = WantedWhere(text).read(network.input_shape, window, image)
    height, width = network.input_shape[1:]
    announce("where", f"{found.source}: {found.count} of {height * width} pixels of the input may change")
    return found
