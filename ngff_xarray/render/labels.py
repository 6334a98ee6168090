"""Labels in colour: a colour for every id, and labels over a picture."""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ngff_xarray.render.blocks import GOLDEN, row_blocks

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray


# One over the powers of the root of x**4 = x + 1, as 64-bit fractions, fill three dimensions
# evenly: https://extremelearning.com.au/unreasonable-effectiveness-of-quasirandom-sequences/
# The hue, which matters most, gets the golden ratio instead: it fills its circle best.
_HUE_STEP = int(GOLDEN * 2**64)
_SATURATION_STEP = int(0.6710436067037893 * 2**64)
_BRIGHTNESS_STEP = int(0.5497004779019703 * 2**64)
_TABLE_IDS = 2**20  # a table of 8 MB; larger ids are coloured run by run
_BLENDED_PIXELS = 2**17  # 1 MB of blends
_SHOWN = 255.0  # an opacity that any stored alpha above zero saturates


class _Stored(NamedTuple):
    """Stored colours as arrays."""

    ids: NDArray[Any]
    """(n,) in the labels' own dtype, ascending."""
    rgba: NDArray[np.uint8]
    """(n, 4)."""


def label_colors(
    ids: NDArray[Any], stored: Mapping[int, tuple[int, int, int, int]] | None = None
) -> NDArray[np.uint8]:
    """The colour of each label, which depends on nothing but its id.

    A label looks the same in every image, at every level and in every session. Neighbouring
    ids differ well: their hues are a golden ratio of the circle apart, and saturation and
    brightness vary too. None is near black. Label 0, the background, is transparent.

    Parameters
    ----------
    ids
        Integers or booleans of any shape; negative ids and ids up to 2**64 - 1 are fine.
    stored
        Colours that go first, label id -> (red, green, blue, alpha), each 0 to 255, as in
        ``image-label.colors``; one for 0 counts as well.

    Returns
    -------
    ndarray
        ``ids.shape + (4,)`` uint8: red, green, blue and alpha, not premultiplied.

    Raises
    ------
    ValueError
        When the ids are not integers.

    Examples
    --------
    >>> label_colors(np.array([0, 1, 2])).tolist()
    [[0, 0, 0, 0], [39, 85, 198, 255], [105, 140, 55, 255]]
    >>> label_colors(np.array([2]), {2: (255, 0, 0, 128)}).tolist()
    [[255, 0, 0, 128]]
    """
    ids = _integers(ids, "ids")
    return _colors(ids.reshape(-1), _as_stored(stored, ids.dtype)).reshape(*ids.shape, 4)


def _colors(ids: NDArray[Any], stored: _Stored) -> NDArray[np.uint8]:
    """The (n, 4) colours of (n,) integers."""
    rgba = np.empty((ids.size, 4), np.uint8)
    bits = ids.astype(np.int64 if ids.dtype.kind == "i" else np.uint64).view(np.uint64)
    _hsv_to_rgb(*_hue_saturation_brightness(bits), out=rgba[:, :3])
    rgba[:, 3] = 255
    rgba[ids == 0] = 0
    if stored.ids.size:
        known = np.isin(ids, stored.ids)
        rgba[known] = stored.rgba[np.searchsorted(stored.ids, ids[known])]
    return rgba


def overlay_labels(
    rgb: NDArray[np.uint8],
    labels: NDArray[Any],
    *,
    stored: Mapping[int, tuple[int, int, int, int]] | None = None,
    alpha: float = 0.5,
    outline: bool = False,
    selected: Collection[int] | None = None,
) -> NDArray[np.uint8]:
    """A copy of the picture with the labels' colours over it.

    Parameters
    ----------
    rgb
        (y, x, 3) uint8.
    labels
        (y, x) integers or booleans. Background, 0, stays as it is, unless it has a stored
        colour that is not transparent.
    stored
        Colours that go before those of `label_colors`; their alpha multiplies `alpha`.
    alpha
        Opacity of the labels, 0 (unseen) to 1 (nothing seen below).
    outline
        Draw only the outermost pixels of each label, opaque whatever `alpha` says: those with
        another label, or the background, above, below, left or right of them. Labels stored
        as fully transparent stay hidden.
    selected
        Ids of labels that stand out: in a white outline of their own, and filled twice as densely
        as others are, or filled where others are outlined.

    Returns
    -------
    ndarray
        (y, x, 3) uint8, a new array, within one count of the same in float64.

    Raises
    ------
    ValueError
        When the picture is not (y, x, 3) uint8, the labels are not integers of its shape, or
        alpha is not between 0 and 1.

    Examples
    --------
    >>> grey = np.full((1, 2, 3), 100, "u1")
    >>> red = {5: (255, 0, 0, 255)}
    >>> overlay_labels(grey, np.array([[0, 5]]), stored=red)[0].tolist()
    [[100, 100, 100], [178, 50, 50]]
    """
    labels = _integers(labels, "labels")
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"rgb is {rgb.shape} {rgb.dtype}; expected (y, x, 3) uint8")
    if labels.shape != rgb.shape[:2]:
        raise ValueError(f"labels are {labels.shape}; expected {rgb.shape[:2]}, as the picture")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; expected 0 to 1")
    colors = _as_stored(stored, labels.dtype)
    out = _outlined(rgb, labels, colors) if outline else _filled(rgb, labels, colors, alpha)
    if selected is not None and len(selected):  # an index of pandas has no truth
        _highlight(out, labels, colors, alpha, selected)
    return out


def _filled(
    rgb: NDArray[np.uint8], labels: NDArray[Any], stored: _Stored, alpha: float
) -> NDArray[np.uint8]:
    """A copy of the picture with the labels blended in."""
    table = _blend_table(labels, stored, alpha)
    out = np.empty(rgb.shape, np.uint8)
    for rows in row_blocks(rgb.shape[0], rgb.shape[1], _BLENDED_PIXELS):
        blends = _blends(labels[rows].reshape(-1), table, stored, alpha)
        _blend(rgb[rows].reshape(-1, 3), blends, out[rows].reshape(-1, 3))
    return out


def _outlined(rgb: NDArray[np.uint8], labels: NDArray[Any], stored: _Stored) -> NDArray[np.uint8]:
    """A copy of the picture with the labels' inner boundaries drawn opaque."""
    out = rgb.copy(order="C")
    pixels = out.reshape(-1, 3)
    edge = np.flatnonzero(_inner_boundary(labels))
    inside = labels.reshape(-1)[edge]
    table = _blend_table(inside, stored, _SHOWN)
    colored = np.empty((edge.size, 3), np.uint8)
    _blend(pixels[edge], _blends(inside, table, stored, _SHOWN), colored)
    pixels[edge] = colored
    return out


def _highlight(
    rgb: NDArray[np.uint8],
    labels: NDArray[Any],
    stored: _Stored,
    alpha: float,
    selected: Collection[int],
) -> None:
    """Make the labels that are selected stand out of the picture, in place."""
    bounds = np.iinfo(labels.dtype)
    ids = [id_ for id_ in {int(id_) for id_ in selected} if id_ and bounds.min <= id_ <= bounds.max]
    marked = np.isin(labels, np.array(ids, labels.dtype.newbyteorder("=")))
    at = np.flatnonzero(marked)
    pixels = rgb.reshape(-1, 3)
    words = _blend_words(_colors(labels.reshape(-1)[at], stored), alpha)
    filled = np.empty((at.size, 3), np.uint8)
    _blend(pixels[at], words, filled)
    pixels[at] = filled
    rgb[_inner_boundary(np.where(marked, labels, 0))] = 255


def _inner_boundary(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a label other than 0 touches something else, one pixel wide."""
    edge = np.zeros(labels.shape, bool)
    vertical = labels[1:] != labels[:-1]
    edge[1:] |= vertical
    edge[:-1] |= vertical
    horizontal = labels[:, 1:] != labels[:, :-1]
    edge[:, 1:] |= horizontal
    edge[:, :-1] |= horizontal
    edge &= labels != 0
    return edge


# A blend is one 64-bit word of four 16-bit fields: red, green and blue of a label times its
# opacity in 256ths, plus one half for rounding, and the share of the picture that is kept. One
# multiplication and one addition then blend a pixel. Bytes are little-endian by declaration.


def _blend(rgb: NDArray[np.uint8], blends: NDArray[np.uint64], out: NDArray[np.uint8]) -> None:
    """Write (n, 3) bytes: the picture's, each under its blend."""
    fields = _four_bytes(rgb).astype("<u2")
    words = fields.view("<u8")[:, 0]
    words *= blends >> np.uint64(48)
    words += blends
    high_bytes = fields.view(np.uint8)[:, 1::2]
    for component in range(3):
        out[:, component] = high_bytes[:, component]


def _four_bytes(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, 3) bytes as (n, 4), the fourth of any value; 2.5 times as fast as three copies."""
    wide = np.empty((len(rgb), 4), np.uint8)
    if len(rgb) > 1:
        # whole words, three bytes apart: each takes along the first byte of the next
        wide[:-1].view("<u4")[:, 0] = np.ndarray(
            len(rgb) - 1, "<u4", np.ascontiguousarray(rgb), strides=3
        )
    wide[-1:, :3] = rgb[-1:]
    return wide


def _blend_words(rgba: NDArray[np.uint8], alpha: float) -> NDArray[np.uint64]:
    """The blends of (n, 4) colours."""
    opacity = np.minimum(np.rint(rgba[:, 3] * (alpha * 256 / 255)), 256).astype(np.uint16)
    fields = np.empty(rgba.shape, "<u2")
    fields[:, :3] = rgba[:, :3] * opacity[:, np.newaxis] + np.uint16(128)
    fields[:, 3] = 256 - opacity
    return fields.view("<u8")[:, 0]


def _blends(
    labels: NDArray[Any], table: NDArray[np.uint64] | None, stored: _Stored, alpha: float
) -> NDArray[np.uint64]:
    """The blend of each of a row of labels, by the table, or else run by run."""
    if table is not None:
        if labels.dtype.kind == "u" and labels.dtype.itemsize == 8:
            # numpy before 2.4 takes no uint64; ids with a table are small
            labels = labels.view(labels.dtype.str.replace("u", "i"))
        return table.take(labels)
    first = np.concatenate([[True], labels[1:] != labels[:-1]])[: labels.size]
    runs = np.flatnonzero(first)
    words = _blend_words(_colors(labels[runs], stored), alpha)
    return np.repeat(words, np.diff(runs, append=labels.size))


def _blend_table(labels: NDArray[Any], stored: _Stored, alpha: float) -> NDArray[np.uint64] | None:
    """The blends of ids 0, 1, 2, …; None when the labels are too large for one, or negative."""
    if labels.size == 0 or labels.min() < 0 or labels.max() >= _TABLE_IDS:
        return None
    table = _default_blends(1 << int(labels.max()).bit_length(), alpha)
    if stored.ids.size:
        table = table.copy()
        held = (stored.ids >= 0) & (stored.ids < table.size)
        table[stored.ids[held]] = _blend_words(stored.rgba[held], alpha)
    return table


@lru_cache(maxsize=4)
def _default_blends(size: int, alpha: float) -> NDArray[np.uint64]:
    """The blends of the first ids, kept: a table of 2**20 takes longer than drawing with it."""
    table = _blend_words(label_colors(np.arange(size)), alpha)
    table.flags.writeable = False
    return table


def _hue_saturation_brightness(
    bits: NDArray[np.uint64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Three well spread numbers for each id: a hue in turns, saturation and brightness."""
    # Even steps keep neighbouring ids apart, which hashes do not; the hash of each 512 ids
    # shifts them, so that no two ids are alike just because they are, say, 1097 apart.
    shift = _mixed(bits >> np.uint64(9))
    saturation = bits * np.uint64(_SATURATION_STEP) + shift
    brightness = bits * np.uint64(_BRIGHTNESS_STEP) + (shift << np.uint64(32))
    hue = bits * np.uint64(_HUE_STEP)
    return _fraction(hue), 0.4 + 0.6 * _fraction(saturation), 0.5 + 0.5 * _fraction(brightness)


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A hash of each integer, 0 for 0: https://prng.di.unimi.it/splitmix64.c."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _fraction(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The integers over 2**64, as far as a float holds them."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _hsv_to_rgb(
    hue: NDArray[np.float64],
    saturation: NDArray[np.float64],
    brightness: NDArray[np.float64],
    *,
    out: NDArray[np.uint8],
) -> None:
    """Write colours to (n, 3) bytes: https://en.wikipedia.org/wiki/HSL_and_HSV."""
    for component, offset in enumerate((5, 3, 1)):
        sector = (6 * hue + offset) % 6
        lack = saturation * np.clip(np.minimum(sector, 4 - sector), 0, 1)
        out[:, component] = np.rint(255 * brightness * (1 - lack))


def _as_stored(
    stored: Mapping[int, tuple[int, int, int, int]] | None, dtype: np.dtype[Any]
) -> _Stored:
    """The stored colours of ids that this dtype can hold; components clip to 0 to 255."""
    colors = stored or {}
    bounds = np.iinfo(dtype)
    ids = sorted(id_ for id_ in colors if bounds.min <= id_ <= bounds.max)
    values = np.fromiter(chain.from_iterable(colors[id_] for id_ in ids), np.int64)
    rgba = np.clip(values, 0, 255).astype(np.uint8).reshape(-1, 4)
    return _Stored(np.array(ids, dtype.newbyteorder("=")), rgba)  # numpy 2.3 compares no others


def _integers(array: NDArray[Any], name: str) -> NDArray[Any]:
    """The array, booleans as 0 and 1, when it holds integers."""
    array = np.asarray(array)
    if array.dtype.kind == "b":
        return array.view(np.uint8)
    if array.dtype.kind not in "ui":
        raise ValueError(f"{name} have dtype {array.dtype}; expected integers (or booleans)")
    return array
