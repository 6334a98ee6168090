"""`plot`: what to draw, by what an object is and what is asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ngff_xarray import image
from ngff_xarray.channels import Channels
from ngff_xarray.errors import SelectionError
from ngff_xarray.image import Obj
from ngff_xarray.overlay import Labels
from ngff_xarray.picture import LabelStyle
from ngff_xarray.planes import Choice
from ngff_xarray.plot.facets import PANELS, plot_facets
from ngff_xarray.plot.images import plot_images
from ngff_xarray.plot.ortho import plot_ortho
from ngff_xarray.plot.over import plot_over
from ngff_xarray.plot.parts import Trimmings
from ngff_xarray.plot.plates import plot_plate, plot_values
from ngff_xarray.plot.single import plot_single
from ngff_xarray.render import Projection

Kind = Literal["plane", "ortho"]


def plot(
    obj: Obj,
    *,
    ax: Axes | None = None,
    kind: Kind = "plane",
    facet: str | None = None,
    panels: int = PANELS,
    over: Obj | Sequence[Obj] = (),
    system: str | None = None,
    labels: Labels = None,
    outline: bool = False,
    opacity: float | Sequence[float] = 0.5,
    selected: Collection[int] | None = None,
    level: object = None,
    channels: Channels = None,
    projection: Projection | None = None,
    scale_bar: bool = True,
    legend: bool = True,
    title: str | None = None,
    **position: Any,
) -> Any:
    """Draw a plane of an image with physical axes, a scale bar and the channels' names.

    Parameters
    ----------
    ax
        Where to draw; by default in a figure of its own.
    kind
        ``"plane"``, or ``"ortho"`` for three planes of a volume through one point, in one scale.
    facet
        The name of an axis: a panel for each channel, plane or time, in one contrast.
    panels
        How many of them at most; they are evenly chosen.
    over
        Images to draw over this one, each where its transformations place it.
    system
        The coordinate system to draw them all in; the one that this image is in, unless given.
    labels
        Label images to draw over it: a name, a list of names, True for all, or a label image.
    outline
        Draw the outlines of labels instead of filling them.
    opacity
        Of filled labels, or of the images in ``over`` (one for all or one each): 0 to 1.
    selected
        Ids of labels that stand out.
    level
        A level by number or pixel size; by default one as fine as the axes can show.
    channels
        The channels to draw; by default those the store calls active, up to eight. Names, or a
        mapping from names to how they look: a colormap, a colour, or the fields of a `Channel`,
        ``{"DAPI": "magma", "GFP": {"color": "#00ff00", "window": (0, 900), "gamma": 0.5}}``.
        A mapping may name channels of images in ``over`` as well, as the legend does.
    projection
        ``"max"``, ``"mean"`` or ``"min"`` over the third axis of space instead of one plane.
    scale_bar, legend
        Whether to draw the scale bar, and the names of the channels.
    title
        By default the image's name and where the plane lies.
    **position
        A position or region an axis, as ``sel`` takes them (``z="3 µm"``). By default the
        store's (``rdefs``), otherwise the middle of space axes and the first of others.

    Returns
    -------
    matplotlib.axes.Axes
        Of ``facet`` and ``kind="ortho"`` an array of them, one a panel.

    Raises
    ------
    SelectionError
        If there is no such level, channel, label image, position or region, or too much to read.
    NotOmeError
        If the object is no picture.
    TransformationError
        If nothing leads from an image in ``over`` to the coordinate system.

    Examples
    --------
    >>> from ngff_xarray import sample
    >>> tree = xr.open_datatree(sample("cell"))
    >>> axes = plot(tree, labels="cell", channels={"phase": "magma"})
    >>> axes.get_title()
    'cell'
    >>> [ax.get_title() for ax in plot(tree, facet="c")]
    ['phase']
    """
    images = _images(over)
    opacities = _opacities(opacity, len(images))
    alone = opacity if isinstance(opacity, int | float) else 0.5
    style = LabelStyle(labels, outline, alone if not images else 0.5, selected)
    choice = Choice(level, channels, projection, position=position)
    trimmings = Trimmings(scale_bar, legend, title)
    if kind not in get_args(Kind):
        raise SelectionError(f"kind: expected one of {get_args(Kind)}, found {kind!r}")
    asked = {"facet": facet is not None, "kind='ortho'": kind == "ortho", "over": bool(images)}
    several = [name for name, is_asked in asked.items() if is_asked]
    if len(several) > 1 or (ax is not None and several not in ([], ["over"])):
        raise SelectionError(f"{' and '.join([*several, 'ax'][:2])}: expected one of them")
    if facet is not None:
        return _array(plot_facets(obj, facet, choice, style, trimmings, panels))
    if kind == "ortho":
        return _array(plot_ortho(obj, choice, style, trimmings))
    if images:
        return plot_over(obj, images, opacities, system, ax, choice, style, trimmings)
    return plot_single(obj, ax, choice, style, trimmings)


def plot_group(
    tree: xr.DataTree,
    *,
    ax: Axes | None = None,
    values: Any = None,
    colormap: str | None = None,
    field: int = 0,
    panels: int = PANELS,
    labels: Labels = None,
    outline: bool = False,
    opacity: float = 0.5,
    selected: Collection[int] | None = None,
    level: object = None,
    channels: Channels = None,
    projection: Projection | None = None,
    scale_bar: bool = True,
    legend: bool = True,
    title: str | None = None,
    **position: Any,
) -> Any:
    """Draw a plate as a mosaic or a heat map, or the images of another group as panels.

    The images of a scene over one another: ``images = scene.ngff.to_system("world").ngff.images``,
    then ``plot(over=[…])`` of the first.

    Parameters
    ----------
    ax
        Where to draw a plate; by default in a figure of its own.
    values
        A number a well of a plate, to be drawn as a heat map: a mapping or a pandas Series, by
        ``"B/3"``, ``"B3"`` or ``("B", "3")``.
    colormap
        Of the heat map: the name of one of matplotlib's.
    field
        Which field of a plate's wells to draw.
    panels
        How many images of a well, collection or scene to draw at most; they are evenly chosen.
    labels, outline, opacity, selected, level, channels, projection, scale_bar, legend, title
        As `plot` takes them, for every image.
    **position
        As `plot` takes it.

    Returns
    -------
    matplotlib.axes.Axes
        Of groups other than plates an array of them, one an image.

    Raises
    ------
    SelectionError
        If there is nothing to draw, or no such well, field, channel or position.
    NgffError
        The first of what went wrong, if no image could be read.
    """
    style = LabelStyle(labels, outline, opacity, selected)
    choice = Choice(level, channels, projection, position=position)
    trimmings = Trimmings(scale_bar, legend, title)
    if image.group_kind(tree) != "plate":
        if values is not None or ax is not None:
            given = "values" if values is not None else "ax"
            raise SelectionError(f"{given}: only plates are drawn so, this is no plate")
        return _array(plot_images(tree, choice, style, trimmings, panels))
    if values is not None:
        return plot_values(tree, values, ax, colormap, trimmings)
    return plot_plate(tree, ax, choice, style, trimmings, field)


def _images(over: Any) -> list[Obj]:
    """Return the images to draw over another."""
    found = list(over) if isinstance(over, list | tuple) else [over]
    for each in found:
        if not isinstance(each, xr.DataArray | xr.Dataset | xr.DataTree):
            raise SelectionError(f"over: expected images, found {type(each).__name__}")
    return found


def _array(axes: Sequence[Axes]) -> NDArray[Any]:
    found = np.empty(len(axes), object)
    found[:] = axes
    return found


def _opacities(opacity: float | Sequence[float], count: int) -> list[float]:
    """Return the opacity of each image that is drawn over another."""
    if isinstance(opacity, int | float):
        return [float(opacity)] * count
    found = [float(each) for each in opacity]
    if len(found) != count or not all(0 <= each <= 1 for each in found):
        raise SelectionError(f"opacity: expected {count} numbers from 0 to 1, found {opacity!r}")
    return found
