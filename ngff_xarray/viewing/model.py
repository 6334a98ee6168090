"""What is seen of a world, frozen, and where a viewer begins. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ngff_xarray import channels, render, units
from ngff_xarray.errors import SelectionError
from ngff_xarray.model import RGB
from ngff_xarray.render import Projection
from ngff_xarray.viewing.affine import Bounds
from ngff_xarray.viewing.layers import Layer, World

Point = tuple[float, float]

_MARGIN = 1.0


@dataclass(frozen=True)
class ChannelView:
    """How a channel is drawn.

    Parameters
    ----------
    name
        As in the image.
    active
        Whether it is drawn.
    color
        Red, green and blue at the end of its window, 0 to 255.
    window
        (start, end) of the values that are drawn from black to the colour; None is automatic.
    gamma, inverted, colormap
        As `render.composite` takes them; the name of a colormap goes before the colour.
    """

    name: str
    active: bool = True
    color: RGB = (255, 255, 255)
    window: tuple[float, float] | None = None
    gamma: float = 1.0
    inverted: bool = False
    colormap: str | None = None


@dataclass(frozen=True)
class LabelView:
    """How a label image is drawn: filled with an opacity, or as outlines; some ids stand out."""

    name: str
    visible: bool = True
    opacity: float = 0.5
    outline: bool = False
    selected: frozenset[int] = frozenset()


@dataclass(frozen=True)
class LayerView:
    """How a layer is drawn: its channels, and the label images over it."""

    name: str
    visible: bool = True
    opacity: float = 1.0
    channels: tuple[ChannelView, ...] = ()
    labels: tuple[LabelView, ...] = ()


@dataclass(frozen=True)
class View:
    """All that decides what is seen.

    Parameters
    ----------
    position
        Where the plane lies on the axes that are not drawn, by name, in their units.
    center
        The point of the world at the middle of the canvas.
    scale
        Units of the world that a CSS pixel is wide.
    size
        CSS pixels of the canvas: width, height.
    ratio
        Device pixels a CSS pixel.
    layers
        How each layer is drawn, bottom first.
    projection
        Over the third axis of space instead of one plane of it.
    lossless
        Whether tiles are PNG rather than JPEG.
    """

    position: tuple[tuple[str, float], ...] = ()
    center: Point = (0.0, 0.0)
    scale: float = 1.0
    size: Point = (512.0, 512.0)
    ratio: float = 1.0
    layers: tuple[LayerView, ...] = ()
    projection: Projection | None = None
    lossless: bool = False

    @property
    def place(self) -> dict[str, float]:
        """The position by axis."""
        return dict(self.position)

    @property
    def extent(self) -> Bounds:
        """The rectangle of the world that the canvas shows."""
        (x, y), (width, height) = self.center, self.size
        half_width, half_height = width * self.scale / 2, height * self.scale / 2
        return x - half_width, y - half_height, x + half_width, y + half_height

    def to_world(self, px: float, py: float) -> Point:
        """Return the point of the world at CSS pixels from the canvas's top left corner.

        Examples
        --------
        >>> view = View(center=(10.0, 20.0), scale=0.5, size=(100, 40))
        >>> view.to_world(0, 0), view.to_pixel(10.0, 20.0)
        ((-15.0, 10.0), (50.0, 20.0))
        """
        left, top, _, _ = self.extent
        return left + px * self.scale, top + py * self.scale

    def to_pixel(self, x: float, y: float) -> Point:
        """Return the CSS pixels from the canvas's top left corner to a point of the world."""
        (cx, cy), (width, height) = self.center, self.size
        return (x - cx) / self.scale + width / 2, (y - cy) / self.scale + height / 2

    def moved(
        self,
        center: Sequence[float] | None = None,
        scale: float | None = None,
        size: Sequence[float] | None = None,
        ratio: float | None = None,
    ) -> View:
        """Return the view of another part of the world, or on another canvas.

        Raises
        ------
        SelectionError
            If a number is not finite, or a scale or ratio not above 0.
        """
        found = replace(
            self,
            center=self.center if center is None else (float(center[0]), float(center[1])),
            scale=self.scale if scale is None else float(scale),
            size=self.size if size is None else (float(size[0]), float(size[1])),
            ratio=self.ratio if ratio is None else float(ratio),
        )
        numbers = (*found.center, *found.size, found.scale, found.ratio)
        if not all(map(math.isfinite, numbers)) or found.scale <= 0 or found.ratio <= 0:
            raise SelectionError(
                f"a view needs finite numbers and a scale above 0, found center {found.center}, "
                f"scale {found.scale}, size {found.size}, ratio {found.ratio}"
            )
        return found

    def at(self, **position: float) -> View:
        """Return the view at another position.

        Examples
        --------
        >>> View(position=(("t", 0.0), ("z", 3.0))).at(z=4.5).place
        {'t': 0.0, 'z': 4.5}
        """
        known = self.place
        unknown = [dim for dim in position if dim not in known]
        if unknown:
            choices = ", ".join(known) or "none"
            raise SelectionError(f"there is no axis {unknown[0]!r} to move along; have {choices}")
        changed = known | {dim: float(place) for dim, place in position.items()}
        if not all(map(math.isfinite, changed.values())):
            raise SelectionError(f"a position is a finite number, found {position}")
        return replace(self, position=tuple(changed.items()))

    def layer(self, name: str) -> LayerView:
        """Return how a layer is drawn."""
        found: LayerView = _named(self.layers, name, "layer")
        return found

    def with_layer(self, name: str, **changes: Any) -> View:
        """Return the view with a layer drawn otherwise."""
        return replace(self, layers=_changed(self.layers, name, "layer", changes))

    def with_channel(self, layer: str, name: str, **changes: Any) -> View:
        """Return the view with a channel drawn otherwise."""
        channels = _changed(self.layer(layer).channels, name, "channel", changes)
        return self.with_layer(layer, channels=channels)

    def with_label(self, layer: str, name: str, **changes: Any) -> View:
        """Return the view with a label image drawn otherwise."""
        labels = _changed(self.layer(layer).labels, name, "label image", changes)
        return self.with_layer(layer, labels=labels)


def _named(entries: Sequence[Any], name: str, what: str) -> Any:
    for entry in entries:
        if entry.name == name:
            return entry
    choices = ", ".join(entry.name for entry in entries) or "none"
    raise SelectionError(f"there is no {what} {name!r}; the {what}s are {choices}")


def _changed(entries: Sequence[Any], name: str, what: str, changes: Mapping[str, Any]) -> Any:
    changed = replace(_named(entries, name, what), **changes)
    return tuple(changed if entry.name == name else entry for entry in entries)


# ---- where to begin ------------------------------------------------------------------------


def home_view(world: World, size: Sequence[float] = (512, 512), ratio: float = 1.0) -> View:
    """Return a view of all of a world, drawn as the stores ask.

    Parameters
    ----------
    size
        CSS pixels of the canvas: width, height.
    ratio
        Device pixels a CSS pixel.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from ngff_xarray.viewing.layers import make_world
    >>> world = make_world(xr.DataArray(np.zeros((5, 40, 80)), dims=("z", "y", "x")))
    >>> view = home_view(world, (160, 160))
    >>> view.center, view.scale, view.place
    ((39.5, 19.5), 0.5, {'z': 2.0})
    """
    center, scale = fitted(world, size)
    starts: dict[str, float] = {}
    for layer in world.layers:
        for dim, along in layer.levels[0].along.items():
            if along.count:
                starts.setdefault(dim, along.at(layer.start[dim]))
    position = {dim.name: starts.get(dim.name, 0.0) for dim in world.dims}
    return View(
        position=tuple(position.items()),
        center=center,
        scale=scale,
        size=(float(size[0]), float(size[1])),
        ratio=float(ratio),
        layers=tuple(_default_layer(layer) for layer in world.layers),
    )


def fitted(world: World, size: Sequence[float]) -> tuple[Point, float]:
    """Return the centre and the scale at which a canvas shows all of a world."""
    if world.extent is None:
        return (0.0, 0.0), 1.0
    left, top, right, bottom = world.extent
    width, height = max(size[0], 1), max(size[1], 1)
    scale = _MARGIN * max((right - left) / width, (bottom - top) / height)
    return ((left + right) / 2, (top + bottom) / 2), scale if scale > 0 else 1.0


def _default_layer(layer: Layer) -> LayerView:
    labels = tuple(LabelView(each.name) for each in layer.labels)
    if layer.kind == "labels":
        # as a layer of its own it has nothing below it to be seen through
        return LayerView(layer.name, labels=(LabelView(layer.name, opacity=1.0),))
    return LayerView(layer.name, channels=_default_channels(layer), labels=labels)


def _default_channels(layer: Layer) -> tuple[ChannelView, ...]:
    drawn = set(channels.chosen(layer.channels, None)[0])
    return tuple(
        ChannelView(
            channel.name,
            active=i in drawn,
            color=channel.color or color,
            window=None if channel.window is None else (channel.window.start, channel.window.end),
            gamma=channel.gamma,
            inverted=channel.inverted,
            colormap=channel.colormap,
        )
        for i, (channel, color) in enumerate(
            zip(layer.channels, render.channel_colors(len(layer.channels)), strict=True)
        )
    )


# ---- lengths -------------------------------------------------------------------------------


def scale_bar(scale: float, unit: str | None, most_px: float = 150) -> tuple[float, str]:
    """Return how long a scale bar is in CSS pixels, and its length as text: 1, 2 or 5 of a unit.

    Parameters
    ----------
    scale
        Units of the world that a CSS pixel is wide.
    unit
        The world's unit, or None for pixels.
    most_px
        How long the bar may be.

    Examples
    --------
    >>> scale_bar(0.5, "micrometer"), scale_bar(0.001, "millimeter", 100)
    ((100.0, '50 µm'), (100.0, '100 µm'))
    >>> scale_bar(2.0, None)
    (100.0, '200 px')
    """
    shown, factor = units.readable(scale * most_px, unit) if unit else ("px", 1.0)
    most = scale * most_px * factor
    power = 10.0 ** math.floor(math.log10(most) + 1e-9)
    length = next(n * power for n in (5, 2, 1) if n * power <= most * (1 + 1e-9))
    return float(f"{length / factor / scale:.9g}"), f"{length:.6g} {units.symbol(shown)}"


def scale_units(unit: str | None) -> list[tuple[str, float]]:
    """Return symbols of units, and how many of the world's each is long, for a scale bar.

    Examples
    --------
    >>> [pair for pair in scale_units("micrometer") if 1e-3 <= pair[1] <= 1e3]
    [('nm', 0.001), ('µm', 1.0), ('mm', 1000.0)]
    """
    if not unit:
        return []
    found = {units.symbol(unit): 1.0}  # positions are told in it
    for power in range(-12, 13, 3):
        name, factor = units.readable(10.0**power, unit)
        found[units.symbol(name)] = float(f"{1 / factor:.9g}")
    return sorted(found.items(), key=lambda pair: pair[1])
