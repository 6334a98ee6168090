"""Which channels a picture draws, and how: what the store says and what the caller asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ngff_xarray import image, render
from ngff_xarray.errors import SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.model import RGB, Channel, Window
from ngff_xarray.spec import omero
from ngff_xarray.spec.values import parse_color
from ngff_xarray.text import printable

Channels = Sequence[str | Channel] | str | Channel | Mapping[str, Any] | None

MAX_CHANNELS = 8
_SAMPLED = 2**18  # values of all planes together that a common window is found from
_TRUE_COLOR = (
    Channel("0", (255, 0, 0), Window(0, 255)),
    Channel("1", (0, 255, 0), Window(0, 255)),
    Channel("2", (0, 0, 255), Window(0, 255)),
)
_FIELDS = frozenset(field.name for field in fields(Channel)) - {"name"}


def stored(array: xr.DataArray, obj: Obj) -> tuple[Channel, ...]:
    """Return the channels as stored; three of bytes that nobody described are true colour."""
    channels = image.channels(array)
    undescribed = not image.ome(obj).get("omero")
    if undescribed and omero.is_true_color(len(channels), array.dtype):
        return _TRUE_COLOR
    return channels


def chosen(channels: Sequence[Channel], wanted: Channels) -> tuple[list[int], list[Channel]]:
    """Return the channels to draw, by index, and each as it is to look.

    Parameters
    ----------
    channels
        Those that there are.
    wanted
        Names; `Channel` objects, where None means what the store says; or a mapping from names
        to a colormap (``"viridis"``), a colour (``"#00ff00"``, ``(0, 255, 0)``), or a mapping of
        the fields of `Channel`. None for those the store calls active, up to eight.

    Raises
    ------
    SelectionError
        If there is no such channel, colormap or colour.

    Examples
    --------
    >>> known = [Channel("DAPI", (0, 0, 255)), Channel("GFP")]
    >>> indices, looks = chosen(known, {"GFP": {"colormap": "magma", "gamma": 0.5}})
    >>> indices, looks[0].colormap, looks[0].gamma
    ([1], 'magma', 0.5)
    """
    if wanted is None:
        active = [i for i, channel in enumerate(channels) if channel.active]
        indices = (active or list(range(len(channels))))[:MAX_CHANNELS]
        return indices, [channels[i] for i in indices]
    known = {channel.name: i for i, channel in enumerate(channels)}
    entries = _entries(wanted)
    if not entries or not all(name in known for name, _ in entries):
        missing = next((name for name, _ in entries if name not in known), wanted)
        listed = ", ".join(printable(name) for name in list(known)[:32])
        more = ", …" if len(known) > 32 else ""
        raise SelectionError(f"there is no channel {missing!r}; the channels are {listed}{more}")
    indices = [known[name] for name, _ in entries]
    looks = [_look(channels[known[name]], asked) for name, asked in entries]
    return indices, looks


def _entries(wanted: Any) -> list[tuple[Any, Any]]:
    """Return each name that is meant, and what is asked of it."""
    if isinstance(wanted, Mapping):
        return list(wanted.items())
    several = wanted if isinstance(wanted, list | tuple) else [wanted]
    return [
        (each.name, each) if isinstance(each, Channel) else (_hashable(each), None)
        for each in several
    ]


def _hashable(name: Any) -> Any:
    return name if isinstance(name, str) else repr(name)


def _look(channel: Channel, asked: Any) -> Channel:
    """Return a channel with what is asked of it in place of what the store says."""
    if asked is None:
        return channel
    if isinstance(asked, Channel):
        color, window = asked.color or channel.color, asked.window or channel.window
        return _checked(replace(asked, name=channel.name, color=color, window=window))
    if isinstance(asked, str):
        color = None if _is_colormap(asked) else parse_color(asked)
        asked = {"colormap": asked} if color is None else {"color": color, "colormap": None}
    elif isinstance(asked, tuple | list):
        asked = {"color": asked, "colormap": None}
    if not isinstance(asked, Mapping) or not set(asked) <= _FIELDS:
        raise SelectionError(
            f"channel {channel.name!r}: expected a colormap, a colour or a mapping with "
            f"{', '.join(sorted(_FIELDS))}; found {asked!r}"
        )
    return _checked(replace(channel, **_fields(channel.name, asked)))


def _fields(name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `Channel`, from what people write for them."""
    found = dict(asked)
    color = found.get("color")
    if isinstance(color, str):
        found["color"] = parse_color(color)
        if found["color"] is None:
            raise SelectionError(f"channel {name!r}: {color!r} is no colour: expected '#00ff00'")
    window = found.get("window")
    if isinstance(window, tuple | list) and len(window) == 2:
        found["window"] = Window(*window)
    if not isinstance(found.get("window"), Window | None):
        raise SelectionError(
            f"channel {name!r}: a window is (start, end), two numbers; found {window!r}"
        )
    return found


def _checked(channel: Channel) -> Channel:
    """Return the channel, if it can be drawn so."""
    try:
        if channel.colormap is not None:
            table(channel.colormap)
        color = (255, 255, 255) if channel.color is None else channel.color
        window = channel.window or Window(0, 1)
        spot, limits = np.zeros((1, 1)), (window.start, window.end)
        render.composite([spot], [color], [limits], gammas=[channel.gamma])
    except (ValueError, TypeError) as error:
        raise SelectionError(f"channel {channel.name!r}: {error}") from error
    return channel


def table(name: str) -> NDArray[np.uint8]:
    """Return a colormap as a table: one of `render.COLORMAPS`, or else of matplotlib's.

    Raises
    ------
    ValueError
        If neither knows the name.
    """
    if not isinstance(name, str):
        raise ValueError(f"a colormap is meant by its name, found {name!r}")
    if _is_ours(name):
        return render.colormap(name)
    import matplotlib as mpl

    if name not in mpl.colormaps:
        known = ", ".join(render.COLORMAPS)
        raise ValueError(f"there is no colormap {name!r}: expected {known}, or one of matplotlib's")
    colors = mpl.colormaps[name](np.linspace(0, 1, 256))[:, :3]
    return np.rint(colors * 255).astype(np.uint8)


def _is_ours(name: str) -> bool:
    return name.removesuffix("_r") in render.COLORMAPS


def _is_colormap(name: str) -> bool:
    try:
        table(name)
    except ValueError:
        return False
    return True


def finished(
    channels: Sequence[Channel], planes: Sequence[Sequence[NDArray[Any]]], *, computed: bool
) -> tuple[Channel, ...]:
    """Return the channels with a colour and a window each, the same for all the pictures.

    Parameters
    ----------
    channels
        As chosen.
    planes
        The planes of each picture, one a channel.
    computed
        Whether the values may be others than the store's, whose windows then show nothing.
    """
    colors = render.channel_colors(len(channels))
    return tuple(
        replace(
            channel,
            color=channel.color or color,
            window=_window(channel, [each[i] for each in planes], computed),
        )
        for i, (channel, color) in enumerate(zip(channels, colors, strict=True))
    )


def _window(channel: Channel, planes: Sequence[NDArray[Any]], computed: bool) -> Window:
    window = channel.window
    if window is not None and not (computed and not _overlaps(window, planes)):
        return window
    if not planes:
        return Window(0, 1)
    if len(planes) == 1:
        return Window(*render.auto_window(planes[0]))
    each = max(1, _SAMPLED // len(planes))
    samples = [plane.reshape(-1)[:: max(1, plane.size // each)] for plane in planes]
    return Window(*render.auto_window(np.concatenate(samples)))


def _overlaps(window: Window, planes: Sequence[NDArray[Any]]) -> bool:
    """Tell whether a stored window shows anything of values that were computed from the store's."""
    first, last = sorted((window.start, window.end))
    ranges = [render.auto_window(plane, (0, 100)) for plane in planes]
    return any(low < last and high > first for low, high in ranges)


def painted(planes: Sequence[NDArray[Any]], channels: Sequence[Channel]) -> NDArray[np.uint8]:
    """Return planes in the colours of their channels, which have a colour and a window each."""
    colors: list[render.Color] = [
        _color(channel) if channel.colormap is None else table(channel.colormap)
        for channel in channels
    ]
    windows = [(w.start, w.end) for channel in channels if (w := channel.window) is not None]
    return render.composite(
        planes,
        colors,
        windows,
        gammas=[channel.gamma for channel in channels],
        inverted=[channel.inverted for channel in channels],
    )


def _color(channel: Channel) -> RGB:
    return channel.color or (255, 255, 255)
