"""The processes in which engines run their models, for tests that look at them or kill them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection

import psutil

__all__ = ["workers_of"]


def workers_of(parent: int | None = None, besides: Collection[int] = ()) -> list[psutil.Process]:
    """The workers that live below a process (this one), but those of the pids `besides`."""
    children = psutil.Process(parent).children()
    return [child for child in children if child.pid not in besides and _is_worker(child)]


def _is_worker(child: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended, whether or not its status was asked for
        return "nomoat.run.worker" in child.cmdline()
    return False
