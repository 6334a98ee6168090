"""Channels in colour: their colours, their contrast, and their sum."""

from __future__ import annotations

import colorsys
import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ngff_xarray.render.blocks import GOLDEN, row_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ngff_xarray.model import RGB

Color = tuple[int, int, int] | NDArray[np.uint8]
"""Red, green and blue, or a table of 256 of them."""

T = TypeVar("T")

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


# half a MB of float32: a product of twice as many makes BLAS wake threads, which spin for longer
# than all of the picture takes, the more so on busy cores
_BLOCK_VALUES = 2**17


def composite(
    planes: Sequence[NDArray[Any]],
    colors: Sequence[Color],
    windows: Sequence[tuple[float, float]],
    *,
    gammas: Sequence[float] | None = None,
    inverted: Sequence[bool] | None = None,
    visible: Sequence[bool] | None = None,
) -> NDArray[np.uint8]:
    """The channels as one picture: each scaled by its window, coloured, added and clipped.

    Parameters
    ----------
    planes
        One (y, x) array a channel: booleans, integers or floats. NaN adds nothing; infinities
        clip like other values.
    colors
        What a channel adds at the end of its window: red, green and blue, 0 to 255. Or a table
        of what it adds from the start of its window to the end, (256, 3) uint8, as `colormap`
        gives them.
    windows
        (start, end) of a channel: start draws black and end its colour. A start above the end
        inverts the contrast; where they are equal, values above them get the full colour and
        the others none.
    gammas
        A positive number a channel: what lies at ``v`` of its window, 0 to 1, is drawn as
        ``v**gamma``, so that gammas below 1 brighten the dark. By default 1 for all.
    inverted
        Which channels to turn round after that, ``1 - v**gamma``. By default none.
    visible
        Which channels to draw; by default all. Where none is, the picture is black.

    Returns
    -------
    ndarray
        (y, x, 3) uint8, within one count of the same in float64.

    Raises
    ------
    ValueError
        When there is no plane; when numbers or shapes differ; when a plane is not of real
        numbers; when a colour, a window or a gamma is out of range.

    Examples
    --------
    >>> dapi = np.array([[100, 150, 200, 900]], dtype="u2")
    >>> composite([dapi], [(0, 255, 0)], [(100, 200)])[0].tolist()
    [[0, 0, 0], [0, 128, 0], [0, 255, 0], [0, 255, 0]]
    >>> composite([dapi], [(0, 255, 0)], [(100, 200)], gammas=[2], inverted=[True])[0, 1].tolist()
    [0, 191, 0]
    """
    planes = _checked_planes(planes, colors, windows)
    weights, tables = _checked_colors(colors)
    starts, scales, dtype = _checked_windows(windows)
    powers = _checked_gammas(gammas, len(planes))
    turned = _one_each(inverted, False, len(planes), "inverted")
    drawn = [i for i, is_ in enumerate(_one_each(visible, True, len(planes), "visible")) if is_]
    height, width = planes[0].shape
    gaps = [_NO_ENTRY if i in tables else 0.0 for i in range(len(planes))]
    looks = [
        _Look(planes[i], starts[i], scales[i], powers[i], turned[i], gaps[i], dtype) for i in drawn
    ]
    mixing = np.vstack([weights[drawn], np.ones(3)]).T.astype(dtype)
    ramps = {row: _ramp(tables[i], dtype) for row, i in enumerate(drawn) if i in tables}
    out = np.empty((height, width, 3), np.uint8)
    blocks = list(row_blocks(height, width, _BLOCK_VALUES // (len(looks) + 1)))
    values = np.empty((len(looks) + 1, (blocks[0].stop if blocks else 0) * width), dtype)
    values[-1] = 0.5  # the row that rounds: its weight is one
    sums = np.empty((3, values.shape[1]), dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in blocks:
            part = values[:, : (rows.stop - rows.start) * width]
            for look, row in zip(looks, part, strict=False):
                look.write(rows, row)
            mixed = np.matmul(mixing, part, out=sums[:, : part.shape[1]])
            for index, ramp in ramps.items():
                _add_ramp(part[index], ramp, mixed)
            _store(mixed, out[rows])
    return out


class _Look:
    """How the values of one plane become shares of its colour, 0 to 1."""

    def __init__(
        self,
        plane: NDArray[Any],
        start: float,
        scale: float,
        gamma: float,
        inverted: bool,
        gap: float,
        dtype: type[np.floating[Any]],
    ) -> None:
        self._plane = plane
        self._start, self._scale, self._gamma = start, scale, gamma
        self._inverted, self._gap = inverted, gap
        self._table = self._tabled(dtype) if gamma != 1 else None

    def write(self, rows: slice, out: NDArray[Any]) -> None:
        """Write the shares of some rows to `out`, flat, and the gap's for NaN."""
        values = self._plane[rows]
        if self._table is not None:
            native = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
            np.take(self._table, native.view(f"u{values.itemsize}").reshape(-1), out=out)
            return
        np.copyto(out.reshape(values.shape), values, casting="unsafe")
        self._scaled(out, may_be_nan=values.dtype.kind == "f")

    def _tabled(self, dtype: type[np.floating[Any]]) -> NDArray[Any] | None:
        """The shares of all values of a small dtype, by their bits: powers are slow."""
        kind, bits = self._plane.dtype.kind, 8 * self._plane.itemsize
        if kind not in "bui" or bits > 16 or self._plane.size < 2**bits:
            return None
        values = np.arange(2**bits, dtype=f"u{bits // 8}")
        table = (values != 0 if kind == "b" else values.view(f"{kind}{bits // 8}")).astype(dtype)
        self._scaled(table, may_be_nan=False)
        return table

    def _scaled(self, out: NDArray[Any], *, may_be_nan: bool) -> None:
        """Turn values into shares in place."""
        out -= self._start
        if math.isinf(self._scale):
            np.sign(out, out=out)
        else:
            out *= self._scale
        gaps = np.isnan(out) if may_be_nan and (self._inverted or self._gap) else None
        if may_be_nan:
            np.fmax(out, 0, out=out)  # of NaN and 0, fmax takes 0
        np.clip(out, 0, 1, out=out)
        if self._gamma != 1:
            np.power(out, self._gamma, out=out)
        if self._inverted:
            np.subtract(1, out, out=out)
        if gaps is not None:
            out[gaps] = self._gap


_NO_ENTRY = -2 / 255  # the share that finds the last entry of a ramp, whatever the rounding


def _ramp(table: NDArray[np.uint8], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """A table of colours as (3, 257) floats, the last of them black, for gaps."""
    return np.append(table, [[0, 0, 0]], axis=0).T.astype(dtype, order="C")


def _add_ramp(shares: NDArray[Any], ramp: NDArray[Any], out: NDArray[Any]) -> None:
    """Add the colours of a ramp at (pixels,) shares to (3, pixels) sums."""
    where = (shares * 255 + 0.5).astype(np.intp)
    for component, sums in zip(ramp, out, strict=True):
        sums += component.take(where)


def _store(mixed: NDArray[Any], out: NDArray[np.uint8]) -> None:
    """Write (3, pixels) sums, at least 0, to (y, x, 3) bytes."""
    np.clip(mixed, 0, 255, out=mixed)
    for component, values in enumerate(mixed):
        # one component at a time: numpy's inner loop must not be the axis of length three
        out[..., component] = values.astype(np.uint8).reshape(out.shape[:2])


def _checked_planes(
    planes: Sequence[NDArray[Any]],
    colors: Sequence[Color],
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


def _checked_colors(
    colors: Sequence[Color],
) -> tuple[NDArray[np.float64], dict[int, NDArray[np.uint8]]]:
    """The colours as (n, 3) floats, 0 to 255; and the tables, whose floats are 0, by number."""
    tables = {
        i: color
        for i, color in enumerate(colors)
        if isinstance(color, np.ndarray) and color.ndim == 2
    }
    for table in tables.values():
        if table.shape != (256, 3) or table.dtype != np.uint8:
            found = f"{table.shape} {table.dtype}"
            raise ValueError(f"a table of colors is {found}; expected (256, 3) uint8")
    weights = np.array([(0, 0, 0) if i in tables else c for i, c in enumerate(colors)], np.float64)
    if weights.shape != (len(colors), 3) or not ((weights >= 0) & (weights <= 255)).all():
        raise ValueError(f"colors are {list(colors)}; expected (red, green, blue), each 0 to 255")
    return weights, tables


def _checked_gammas(gammas: Sequence[float] | None, count: int) -> list[float]:
    """A gamma for each channel."""
    powers = [float(gamma) for gamma in _one_each(gammas, 1.0, count, "gammas")]
    if not all(0 < gamma < math.inf for gamma in powers):
        raise ValueError(f"gammas are {powers}; expected positive numbers")
    return powers


def _one_each(values: Sequence[T] | None, default: T, count: int, name: str) -> list[T]:
    """As many values as there are channels, the default for all where there are none."""
    if values is None:
        return [default] * count
    if len(values) != count:
        raise ValueError(f"{count} planes and {len(values)} {name}; expected one for each plane")
    return list(values)


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
