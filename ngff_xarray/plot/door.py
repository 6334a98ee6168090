"""`plot`: what to draw, by what it is and what is asked for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from matplotlib.axes import Axes

from ngff_xarray.channels import Channels
from ngff_xarray.image import Obj
from ngff_xarray.overlay import Labels
from ngff_xarray.picture import LabelStyle
from ngff_xarray.planes import Choice
from ngff_xarray.plot.facets import PANELS, plot_facets
from ngff_xarray.plot.ortho import plot_ortho
from ngff_xarray.plot.parts import Trimmings
from ngff_xarray.plot.single import plot_single
from ngff_xarray.render import Projection


def plot(
    obj: Obj,
    *,
    ax: Axes | None = None,
    kind: Literal["plane", "ortho"] = "plane",
    facet: str | None = None,
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
    """Draw."""
    choice = Choice(level, channels, projection, position=position)
    over = LabelStyle(labels, outline, opacity, selected)
    trimmings = Trimmings(scale_bar, legend, title)
    if facet is not None:
        return plot_facets(obj, facet, choice, over, trimmings, panels)
    if kind == "ortho":
        return plot_ortho(obj, choice, over, trimmings)
    return plot_single(obj, ax, choice, over, trimmings)
