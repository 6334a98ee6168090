"""A bar for work that takes a while: in notebooks and terminals, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_DELAY = 1.0  # seconds without a bar: short work shows none


@contextmanager
def progress(
    text: str, total: int, unit: str, shown: bool | None = None
) -> Iterator[Callable[[int], None]]:
    """Show how far some work is; what comes is called with how much more was done.

    Parameters
    ----------
    text
        What is done.
    total
        How much there is to do.
    unit
        Of what.
    shown
        Whether to show it; by default after a second, in a notebook or a terminal.

    Examples
    --------
    >>> with progress("counting", 3, "sheep", shown=False) as done:
    ...     done(3)
    """
    from tqdm.auto import tqdm

    hidden = None if shown is None and not _in_notebook() else shown is False
    with tqdm(
        total=total, desc=text, unit=f" {unit}", delay=_DELAY, disable=hidden, leave=bool(shown)
    ) as bar:
        yield bar.update


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
