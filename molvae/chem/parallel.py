"""Run chemistry on all cores, in order, so that a molecule that kills or hangs its process costs only itself.

In: a function of one item, and items or chunks of them. Out: results in the order of the input, one per item.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any, cast

from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool, ShutdownExecutorError

from molvae.chem.rejected import Rejected

SMALL = 200
"""Up to this many items run in the calling process: starting workers costs about a second, and the length cap on
strings keeps RDKit within its stack."""

PATIENCE = 30.0
"""Seconds one item may take before its process counts as hung."""
SLOWEST = 0.2
"""Seconds the slowest molecule under the length cap takes."""

_IDLE = 300
_LOST = (BrokenProcessPool, ShutdownExecutorError, FutureTimeout)


def cpu_count() -> int:
    """Return the cores this process may use (its affinity, not the machine's size)."""
    return max(1, len(os.sched_getaffinity(0)))


@dataclass(frozen=True, slots=True)
class EachItem:
    """Apply a function to every item of a chunk; an item that raises becomes `Rejected`, the rest goes on.

    >>> EachItem(float)(["1", "one"])[1].reason
    'crashed'
    """

    function: Callable[[Any], Any]

    def __call__(self, chunk: Sequence[Any]) -> list[Any]:
        results = []
        for item in chunk:
            try:
                results.append(self.function(item))
            except Exception as error:  # the per-molecule boundary: one odd molecule must not end a run of millions
                results.append(Rejected(str(item), "crashed", f"{type(error).__name__}: {error}"[:200]))
        return results


def _quiet_worker() -> None:
    # Ctrl-C belongs to the parent, which ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _patience(chunk: Sequence[Any]) -> float:
    return PATIENCE + SLOWEST * len(chunk)


class _Pool:
    """Worker processes that are started anew when one of them dies."""

    def __init__(self, work: Callable[[Sequence[Any]], list[Any]], workers: int) -> None:
        self.work = work
        self.workers = workers

    def submit(self, chunk: Sequence[Any]) -> Future[list[Any]]:
        executor = get_reusable_executor(max_workers=self.workers, timeout=_IDLE, initializer=_quiet_worker)
        try:
            return cast("Future[list[Any]]", executor.submit(self.work, chunk))
        except _LOST:
            executor = get_reusable_executor(max_workers=self.workers, timeout=_IDLE, initializer=_quiet_worker)
            return cast("Future[list[Any]]", executor.submit(self.work, chunk))

    def end(self) -> None:
        """Kill the workers; the next `submit` starts new ones."""
        get_reusable_executor(max_workers=self.workers, timeout=_IDLE, initializer=_quiet_worker).shutdown(
            wait=True, kill_workers=True
        )

    def carefully(self, chunk: Sequence[Any]) -> list[Any]:
        """Run a chunk that was in work when a process died: alone, and if it dies again, item by item."""
        try:
            return self.submit(chunk).result(timeout=_patience(chunk))
        except _LOST:
            self.end()
        results = []
        for item in chunk:
            try:
                results += self.submit([item]).result(timeout=PATIENCE)
            except _LOST as error:
                self.end()
                hung = isinstance(error, FutureTimeout)
                detail = f"no answer in {PATIENCE:.0f} s" if hung else "its process died"
                results.append(Rejected(str(item), "crashed", detail))
        return results


def map_chunks(
    function: Callable[[Any], Any],
    chunks: Iterable[Sequence[Any]],
    workers: int | None = None,
    *,
    whole: bool = False,
) -> Iterator[list[Any]]:
    """Apply ``function`` to every item of every chunk in worker processes and yield the results chunk by chunk.

    Only ``2 * workers + 2`` chunks are read ahead of the one yielded, so memory stays bounded for any input. A single
    chunk of at most `SMALL` items runs in the calling process: an exception still becomes `Rejected`, but there no
    process can be lost, so ``function`` must cap the length of strings before RDKit sees them.

    Args:
        function: takes one item, returns its result; must be importable (or a dataclass of importable parts).
        chunks: sequences of items, read lazily; a few hundred items each serve well.
        workers: processes; None means every core this process may use.
        whole: whether ``function`` takes a whole chunk and returns a list, one result per item; then it must see to it
            itself that an item does not raise, with `EachItem`.

    Yields:
        A list for every chunk, in order, with one result per item. An item whose work raised, hung or killed
        its process gives `Rejected` with the reason ``crashed``.
    """
    source = iter(chunks)
    first = list(itertools.islice(source, 2))
    work = function if whole else EachItem(function)
    if len(first) == 1 and len(first[0]) <= SMALL:
        yield work(first[0])
        return
    yield from _stream(_Pool(work, workers or cpu_count()), itertools.chain(first, source))


def _stream(pool: _Pool, source: Iterator[Sequence[Any]]) -> Iterator[list[Any]]:
    """Keep the pool busy and yield its results in order."""
    waiting: deque[tuple[Sequence[Any], Future[list[Any]]]] = deque()
    ended = False
    try:
        while True:
            while not ended and len(waiting) < 2 * pool.workers + 2:
                chunk = next(source, None)
                if chunk is None:
                    ended = True
                else:
                    waiting.append((chunk, pool.submit(chunk)))
            if not waiting:
                return
            chunk, future = waiting[0]
            try:
                results = future.result(timeout=_patience(chunk))
            except _LOST:
                pool.end()
                # Nobody knows which of the chunks in work was to blame, so each one is tried alone.
                while waiting:
                    yield pool.carefully(waiting.popleft()[0])
                continue
            waiting.popleft()
            yield results
    finally:
        for _, future in waiting:
            future.cancel()


def map_items(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int | None = None, chunk: int = 250
) -> list[Any]:
    """Apply ``function`` to every item on all cores: one result per item, in order (see `map_chunks`).

    >>> map_items(len, ["C", "CC"])
    [1, 2]
    """
    chunks = (items[start : start + chunk] for start in range(0, len(items), chunk))
    return [result for results in map_chunks(function, chunks, workers) for result in results]
