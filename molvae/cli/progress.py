"""Show how far a long verb is, how fast it goes and how long it still takes.

In: counts of what is done. Out: a bar on a terminal, a plain line now and then elsewhere; always on stderr.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

PLAIN_EVERY = 10.0
WINDOW = 60.0


class Update(Protocol):
    """What a verb calls while it works."""

    def __call__(self, done: int, **fields: float | str) -> None:
        """Report that ``done`` of the total are done; ``fields`` are shown beside it, such as ``loss=0.3``."""


@contextmanager
def progress_bar(
    label: str, total: int | None, start: int = 0, *, share: bool = False, below: Any = None
) -> Iterator[Update]:
    """Show progress until the block ends.

    Args:
        label: what is being done, one or two words.
        total: how many there are, None when nobody knows.
        start: how many were done before, by a run that this one resumes; they do not count in the rate.
        share: show percent instead of counts and their rate, for work whose size is not a number of things.
        below: something that rich can draw, renewed with the bar; on a terminal only.

    Yields:
        ``update(done, **fields)``; ``done`` counts from the very start, it is not a step.

    A closed stderr shows nothing and fails nothing. Off a terminal one line is printed every 10 seconds, none at all
    when the block is over sooner.

    >>> with progress_bar("Counting", 3) as update:
    ...     for done in range(3):
    ...         update(done + 1)
    """
    stream = sys.stderr
    if stream is None or stream.closed:
        yield _nothing
    elif stream.isatty():
        with _terminal_bar(label, total, start, share, below) as update:
            yield update
    else:
        yield _plain_lines(label, total, start, stream, share=share)


def _nothing(done: int, **fields: float | str) -> None:
    """Show nothing."""


@contextmanager
def _terminal_bar(label: str, total: int | None, start: int, share: bool, below: Any = None) -> Iterator[Update]:
    """Draw a bar that renews itself, and what is to stand below it."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(bar_width=30), TextColumn("{task.fields[state]}")]
    console = Console(stderr=True)
    progress = Progress(*columns, console=console)
    with Live(progress if below is None else Group(progress, below), console=console, refresh_per_second=5):
        task = progress.add_task(escape(label), total=total, completed=start, state="")
        rate = _rate(start, time.monotonic)

        def update(done: int, **fields: float | str) -> None:
            progress.update(task, completed=done, state=escape(_describe(done, total, rate(done), fields, share)))

        yield update


def _plain_lines(
    label: str, total: int | None, start: int, stream: TextIO, clock: Callable[[], float] = time.monotonic,
    share: bool = False,
) -> Update:  # fmt: skip
    """Print a line when the last one is `PLAIN_EVERY` seconds old."""
    rate = _rate(start, clock)
    last = clock()

    def update(done: int, **fields: float | str) -> None:
        nonlocal last
        now_rate = rate(done)
        if clock() - last < PLAIN_EVERY:
            return
        last = clock()
        try:
            stream.write(f"{label}: {_describe(done, total, now_rate, fields, share)}\n")
            stream.flush()
        except (OSError, ValueError):
            # Nobody reads any more; the work goes on.
            last = float("inf")

    return update


def _rate(start: int, clock: Callable[[], float]) -> Callable[[int], float]:
    """Return a function from ``done`` to items per second over the last `WINDOW` seconds, 0 while nothing is known."""
    reports = deque([(clock(), start)])

    def rate(done: int) -> float:
        now = clock()
        if now - reports[-1][0] >= 1.0:
            reports.append((now, done))
        while len(reports) > 2 and now - reports[1][0] >= WINDOW:
            reports.popleft()
        then, before = reports[0]
        return max(done - before, 0) / (now - then) if now > then else 0.0

    return rate


def _describe(done: int, total: int | None, rate: float, fields: dict[str, float | str], share: bool = False) -> str:
    """Return the text beside the bar.

    >>> _describe(500, 2000, 100.0, {"loss": 0.25})
    '500/2,000  100/s  15s left  loss 0.25'
    """
    parts = [f"{done:,}/{total:,}" if total is not None else f"{done:,}"]
    if share and total is not None:
        parts = [f"{done / total:.0%}"]
    if rate > 0:
        if not share:
            parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
        if total is not None:
            parts.append(f"{_duration(max(total - done, 0) / rate)} left")
    for name, value in fields.items():
        parts.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return "  ".join(parts)


def _duration(seconds: float) -> str:
    """Return a time a person reads.

    >>> _duration(42), _duration(125), _duration(7322)
    ('42s', '2m05s', '2h02m')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
