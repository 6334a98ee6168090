"""A bar for work that takes a while: in notebooks and terminals, and nowhere else."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_DELAY = 1.0  # seconds without a bar: short work shows none
_TICK = 0.2  # seconds from one look at it to the next


class Bar:
    """Counts some work, and is shown by whoever waits for it.

    Any thread may count. `show` is for the one that the user waits in: what another thread prints
    stands in a notebook below whichever cell that thread was begun by.

    Parameters
    ----------
    text
        What is done.
    unit
        To what; the plural. Of bytes (``"B"``) megabytes are shown.
    shown
        Whether to show it; by default after a second, in a notebook or a terminal.

    Examples
    --------
    >>> bar = Bar("counting", "sheep", shown=False)
    >>> bar.more(3)
    >>> bar.did()
    >>> bar.done, bar.total
    (1, 3)
    """

    def __init__(self, text: str = "", unit: str = "", shown: bool | None = False) -> None:
        self.total = self.done = 0
        self._text, self._unit, self._shown = text, unit, shown
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._shown_at = 0.0
        self._drawn: Any = None

    def more(self, count: int) -> None:
        """Add to how much there is to do."""
        self.total += count

    def did(self, count: int = 1) -> None:
        """Add to how much is done."""
        with self._lock:
            self.done += count

    def show(self) -> None:
        """Draw how far it is, if it is time for that."""
        now = time.monotonic()
        if now - self._shown_at >= _TICK and self._is_due():
            self._shown_at = now
            self._draw()

    def _draw(self) -> None:
        if self._drawn is None:
            from tqdm.auto import tqdm

            is_bytes = self._unit == "B"
            self._drawn = tqdm(
                desc=self._text,
                total=self.total,
                unit=self._unit if is_bytes else f" {self._unit}",
                unit_scale=is_bytes,
                leave=bool(self._shown),
                disable=bool(
                    os.environ.get("TQDM_DISABLE")
                ),  # tqdm's bars in notebooks pass it over
            )
            if not self._drawn.disable:
                self._drawn.start_t -= time.monotonic() - self._start
        if self._drawn.total != self.total:
            self._drawn.reset(self.total)
            self._drawn.initial = self.done  # speed is that from now on
        self._drawn.n = self.done
        self._drawn.refresh()

    def _is_due(self) -> bool:
        if self._shown is None:
            return time.monotonic() - self._start >= _DELAY and (_in_notebook() or _in_terminal())
        return self._shown

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine, run on zarr's event loop; meanwhile show the bar."""
        from zarr.core.sync import sync

        async def begin() -> Future[T]:
            return asyncio.run_coroutine_threadsafe(coroutine, asyncio.get_running_loop())

        future = sync(begin())
        try:
            while not wait([future], _TICK).done:
                self.show()
        except BaseException:  # the user interrupts it
            future.cancel()
            raise
        return future.result()

    def close(self) -> None:
        """Draw it for the last time; one that was not asked for goes away."""
        if self._shown or self._drawn is not None:
            self._draw()
            self._drawn.close()


@contextmanager
def progress(text: str, unit: str, shown: bool | None = None, total: int = 0) -> Iterator[Bar]:
    """Make a bar for some work: see `Bar`."""
    bar = Bar(text, unit, shown)
    bar.more(total)
    try:
        yield bar
    finally:
        bar.close()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _in_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
