"""Text from a store, as it may stand in a terminal, a picture or a page."""

from __future__ import annotations


def printable(text: object, most: int = 60) -> str:
    r"""Return text without control characters or marks that reorder it, kept short.

    Examples
    --------
    >>> printable("GFP\x1b[31m"), printable("a" * 100, 5)
    ('GFP�[31m', 'aaaa…')
    """
    cut = str(text)[: most + 1]
    clean = cut
    if not cut.isprintable():  # rare: reports of a hundred thousand faults come through here
        clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in cut)
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"
