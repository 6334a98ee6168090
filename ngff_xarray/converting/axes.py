"""The axes of arrays whose file does not name them, or names them in its own way."""

from __future__ import annotations

from collections.abc import Sequence

from ngff_xarray.converting.reader import Options
from ngff_xarray.errors import Issue, SelectionError, UnsupportedError
from ngff_xarray.text import printable

ORDER = "tczyx"
_BY_NUMBER = {2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx"}


def named(
    shape: Sequence[int], options: Options, known: Sequence[str] | None, where: str
) -> tuple[list[str], list[Issue]]:
    """Return the names of the axes of an array, and what is odd about them.

    Parameters
    ----------
    shape
        Of the array.
    options
        What the caller says comes first.
    known
        What the file says, None for nothing. Otherwise they are guessed by their number.
    where
        What to call the file.

    Raises
    ------
    SelectionError
        If the caller names others than there are.
    UnsupportedError
        If there is no guess.

    Examples
    --------
    >>> named((5, 9, 9), Options(), None, "a.npy")[0]
    ['z', 'y', 'x']
    >>> named((2, 9, 9), Options(axes="cyx"), None, "a.npy")[0]
    ['c', 'y', 'x']
    """
    if options.axes is not None:
        told = [str(name) for name in options.axes]
        if len(told) != len(shape) or len(set(told)) < len(told):
            raise SelectionError(
                f"axes={''.join(told)!r}: expected {len(shape)} different names: {where} is an "
                f"array of {tuple(shape)}"
            )
        return told, []
    if known is not None:
        return list(known), []
    guess = _BY_NUMBER.get(len(shape))
    if guess is None:
        raise UnsupportedError(
            f"{where}: is an array of {tuple(shape)}: give the names of its axes, as axes='zyx'"
        )
    message = f"{printable(where, 200)} does not say its axes: read as {guess}"
    return list(guess), [Issue("axes", message, mend="give axes='tyx', or what they are")]


def order(names: Sequence[str]) -> list[int]:
    """Return the numbers of the axes in the order that OME-Zarr wants: t, c, z, y, x.

    Others stay in front of those of space.

    Examples
    --------
    >>> order(["x", "y", "z"]), order(["y", "x", "c"])
    ([2, 1, 0], [2, 0, 1])
    """

    def place(i: int) -> tuple[int, int]:
        name = names[i]
        return (ORDER.index(name) if name in ORDER else 1, i)

    return sorted(range(len(names)), key=place)
