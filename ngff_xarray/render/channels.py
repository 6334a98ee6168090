"""Channels in colour: their colours, their contrast, and their sum."""

from __future__ import annotations

import colorsys
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_xarray.render.blocks import GOLDEN, row_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ngff_xarray.model import RGB

_WHITE: RGB = (255, 255, 255)
_MAGENTA: RGB = (255, 0, 255)
_GREEN: RGB = (0, 255, 0)
_FLUORESCENCE: tuple[RGB, ...] = (
    (0, 255, 255),
    _MAGENTA,
    (255, 255, 0),
    (255, 0, 0),
    _GREEN,
    (0, 0, 255),
)


def hex_color(rgb: RGB) -> str:
    """A colour as ``#`` and six hexadecimal digits, the inverse of `parse_color`.

    Parameters
    ----------
    rgb
        Red, green and blue, each 0 to 255.

    Raises
    ------
    ValueError
        When a component is outside 0 to 255.

    Examples
    --------
    >>> hex_color((0, 255, 0))
    '#00ff00'
    """
    red, green, blue = rgb
    return f"#{bytes((red, green, blue)).hex()}"


def channel_colors(n: int) -> tuple[RGB, ...]:
    """Colours for `n` channels that have none stored, the same ones every time.

    One channel is white and two are magenta and green, which colour-blind readers can tell
    apart. From three on: cyan, magenta, yellow, red, green, blue, then hues a golden ratio of
    the circle apart.

    Parameters
    ----------
    n
        The number of channels, 0 or more.

    Returns
    -------
    tuple of RGB
        `n` different colours.

    Examples
    --------
    >>> channel_colors(1), channel_colors(2)
    (((255, 255, 255),), ((255, 0, 255), (0, 255, 0)))
    >>> [hex_color(color) for color in channel_colors(3)]
    ['#00ffff', '#ff00ff', '#ffff00']
    """
    if n < 0:
        raise ValueError(f"the number of channels is {n}; expected 0 or more")
    if n <= 2:
        return ((), (_WHITE,), (_MAGENTA, _GREEN))[n]
    more = (_pastel(0.08 + k * GOLDEN) for k in range(n - len(_FLUORESCENCE)))
    return (*_FLUORESCENCE[:n], *more)


def _pastel(hue: float) -> RGB:
    """A bright colour of that hue, in turns, paler than the six pure ones."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, 0.65, 1)
    return round(255 * red), round(255 * green), round(255 * blue)


_SAMPLES = 2**18
# half the range, so that the difference of two limits is still a number
_LARGEST_LIMIT = float(np.finfo(np.float64).max) / 2


def auto_window(
    plane: NDArray[Any], percentiles: tuple[float, float] = (0.1, 99.9)
) -> tuple[float, float]:
    """A contrast window (start, end) that shows the plane well, with start < end.

    Large planes are judged by a strided sample of less than 2**18 pixels. Where that sample
    is all but constant, the extremes of the whole plane decide, so that one small bright cell
    in the dark is seen.

    Parameters
    ----------
    plane
        Booleans, integers or floats of any shape; NaN and infinities are left out.
    percentiles
        Which of the sampled values the window starts and ends at, 0 to 100.

    Returns
    -------
    tuple of float
        (0, 1) for booleans, and for a plane without any finite value; (v, v + 1) for a
        plane that is v everywhere.

    Raises
    ------
    ValueError
        When the values are not real numbers, or the percentiles not 0 <= low <= high <= 100.

    Examples
    --------
    >>> auto_window(np.arange(1001, dtype="u2").reshape(7, 143), (1, 99))
    (10.0, 990.0)
    >>> auto_window(np.full((4, 4), 7))
    (7.0, 8.0)
    """
    low, high = percentiles
    if not 0 <= low <= high <= 100:
        raise ValueError(f"percentiles are {percentiles}; expected 0 <= low <= high <= 100")
    plane = _real(plane, "the plane")
    if plane.dtype == bool:
        return 0.0, 1.0
    sample = _finite(_strided(plane))
    start, end = _ranks(sample, low, high) if sample.size else (0.0, 0.0)
    if start == end:
        values = _finite(plane)
        if values.size == 0:
            return 0.0, 1.0
        start, end = _limit(values.min()), _limit(values.max())
    if start == end:
        # far from zero, floats are more than 1 apart
        end = max(start + 1, math.nextafter(start, math.inf))
    return start, end


def _strided(plane: NDArray[Any]) -> NDArray[Any]:
    """A regular sample of at most 2**18 values, as a view."""
    sample = plane
    while sample.size > _SAMPLES:
        # every third: an even step would see one field only of an interlaced camera image
        step = [slice(None)] * sample.ndim
        step[int(np.argmax(sample.shape))] = slice(None, None, 3)
        sample = sample[tuple(step)]
    return sample


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    """The finite values, as a flat array where some are not."""
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values


def _ranks(sample: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    """The values at two percentiles, outwards to ones that occur: nothing to overflow."""
    last = sample.size - 1
    ranks = math.floor(low / 100 * last), min(math.ceil(high / 100 * last), last)
    ordered = np.partition(sample, ranks, axis=None)
    return _limit(ordered[ranks[0]]), _limit(ordered[ranks[1]])


def _limit(value: Any) -> float:
    """A window's limit as a float, kept to where windows have a finite width."""
    return min(max(float(value), -_LARGEST_LIMIT), _LARGEST_LIMIT)


# 1 MB of float32: larger leaves the cache, and makes BLAS wake threads that it then keeps busy
_BLOCK_VALUES = 2**18


def composite(
    planes: Sequence[NDArray[Any]],
    colors: Sequence[RGB],
    windows: Sequence[tuple[float, float]],
) -> NDArray[np.uint8]:
    """The channels as one picture: each scaled by its window, coloured, added and clipped.

    Parameters
    ----------
    planes
        One (y, x) array a channel: booleans, integers or floats. NaN adds nothing; infinities
        clip like other values.
    colors
        What a channel adds at the end of its window: red, green and blue, 0 to 255.
    windows
        (start, end) of a channel: start draws black and end its colour. A start above the end
        inverts the contrast; where they are equal, values above them get the full colour and
        the others none.

    Returns
    -------
    ndarray
        (y, x, 3) uint8, within one count of the same in float64.

    Raises
    ------
    ValueError
        When there is no plane; when numbers or shapes differ; when a plane is not of real
        numbers; when a colour or a window is out of range.

    Examples
    --------
    >>> dapi = np.array([[100, 150, 200, 900]], dtype="u2")
    >>> composite([dapi], [(0, 255, 0)], [(100, 200)])[0].tolist()
    [[0, 0, 0], [0, 128, 0], [0, 255, 0], [0, 255, 0]]
    """
    planes = _checked_planes(planes, colors, windows)
    weights = _checked_colors(colors)
    starts, scales, dtype = _checked_windows(windows)
    height, width = planes[0].shape
    out = np.empty((height, width, 3), np.uint8)
    blocks = list(row_blocks(height, width, _BLOCK_VALUES // (len(planes) + 1)))
    values = np.empty((len(planes) + 1, (blocks[0].stop if blocks else 0) * width), dtype)
    values[-1] = 0.5  # the row that rounds: its weight is one
    sums = np.empty((3, values.shape[1]), dtype)
    mixing = np.vstack([weights, np.ones(3)]).T.astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in blocks:
            part = values[:, : (rows.stop - rows.start) * width]
            for plane, row, start, scale in zip(planes, part, starts, scales, strict=False):
                _scale(plane[rows], row, start, scale)
            _store(np.matmul(mixing, part, out=sums[:, : part.shape[1]]), out[rows])
    return out


def _scale(plane: NDArray[Any], out: NDArray[Any], start: float, scale: float) -> None:
    """Write where each value lies in its window, 0 to 1 and NaN as 0, to `out`, flat."""
    np.copyto(out.reshape(plane.shape), plane, casting="unsafe")
    out -= start
    out *= scale
    if plane.dtype.kind == "f" or math.isinf(scale):
        np.fmax(out, 0, out=out)  # of NaN and 0, fmax takes 0
    np.clip(out, 0, 1, out=out)


def _store(mixed: NDArray[Any], out: NDArray[np.uint8]) -> None:
    """Write (3, pixels) sums, at least 0, to (y, x, 3) bytes."""
    np.clip(mixed, 0, 255, out=mixed)
    for component, values in enumerate(mixed):
        # one component at a time: numpy's inner loop must not be the axis of length three
        out[..., component] = values.astype(np.uint8).reshape(out.shape[:2])


def _checked_planes(
    planes: Sequence[NDArray[Any]],
    colors: Sequence[RGB],
    windows: Sequence[tuple[float, float]],
) -> list[NDArray[Any]]:
    """The planes as arrays, all (y, x) of one shape and as many as colours and windows."""
    if len(planes) == 0:
        raise ValueError("no planes: expected one or more, their shape is the picture's")
    if not len(planes) == len(colors) == len(windows):
        raise ValueError(
            f"{len(planes)} planes, {len(colors)} colors and {len(windows)} windows; "
            "expected one color and one window for each plane"
        )
    arrays = [_real(plane, f"plane {index}") for index, plane in enumerate(planes)]
    shapes = [array.shape for array in arrays]
    if len(shapes[0]) != 2 or len(set(shapes)) != 1:
        raise ValueError(f"planes have the shapes {shapes}; expected one shape (y, x) for all")
    return arrays


def _checked_colors(colors: Sequence[RGB]) -> NDArray[np.float64]:
    """The colours as (n, 3) floats, 0 to 255."""
    weights = np.array(colors, np.float64)
    if weights.shape != (len(colors), 3) or not ((weights >= 0) & (weights <= 255)).all():
        raise ValueError(f"colors are {list(colors)}; expected (red, green, blue), each 0 to 255")
    return weights


def _checked_windows(
    windows: Sequence[tuple[float, float]],
) -> tuple[list[float], list[float], type[np.floating[Any]]]:
    """Each window's start and one over its width, and the float type that resolves them all."""
    widths = [float(end) - float(start) for start, end in windows]
    if not all(map(math.isfinite, widths)):
        raise ValueError(f"windows are {list(windows)}; expected (start, end), finite numbers")
    starts = [float(start) for start, _ in windows]
    # a width of zero makes any difference infinite, and no difference NaN
    scales = [1 / width if width else math.inf for width in widths]
    # float32 has 24 bits: with 14 of them inside the window, 1/64 of a count at most is lost
    single = all(
        2.0**-100 < abs(width) < 2.0**100 and abs(width) > 2.0**-10 * abs(start)
        for start, width in zip(starts, widths, strict=True)
    )
    return starts, scales, np.float32 if single else np.float64


def _real(array: NDArray[Any], name: str) -> NDArray[Any]:
    """The array, when its values are booleans, integers or floats."""
    array = np.asarray(array)
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} has dtype {array.dtype}; expected booleans, integers or floats")
    return array
