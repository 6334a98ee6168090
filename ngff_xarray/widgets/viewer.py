"""The viewer: a canvas among ordinary controls, over images in one world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import traitlets

from ngff_xarray import render, units
from ngff_xarray.errors import NgffError, SelectionError
from ngff_xarray.render import hex_color
from ngff_xarray.text import printable
from ngff_xarray.viewing import (
    Caches,
    ChannelView,
    Layer,
    TileServer,
    View,
    World,
    make_world,
)
from ngff_xarray.viewing.regions import Roi, roi_of
from ngff_xarray.widgets import controls
from ngff_xarray.widgets.bundle import PictureBundle
from ngff_xarray.widgets.pane import Pane, call_soon
from ngff_xarray.widgets.state import STATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ngff_xarray.image import Obj
    from ngff_xarray.overlay import Labels

TOOLS = {"pan": "Pan", "rectangle": "Rectangle", "polygon": "Polygon", "select": "Select"}
_ONE_PLANE = "plane"  # what the choice of projections calls none: a widget takes None for no choice
_PICTURE = 512  # CSS pixels of the picture that stands in where no widget can be shown
_MOST_LABELS = 12  # label images that have controls


@cache
def _caches() -> Caches:
    """Return the caches of all viewers: a cell that is run again makes one more each time."""
    return Caches()


class Viewer(widgets.VBox):
    """A view of images that follows the hand, and can be read and set from the kernel.

    Made by `view`. Every trait can be observed (``viewer.observe(f, "position")``) and set.

    Parameters
    ----------
    world
        The layers.
    height
        CSS pixels of the canvas.
    shown
        Names of the label images to show from the start.
    clicked
        Is called with a point of the world that was clicked, or chosen by Enter.
    tools
        Whether regions can be drawn and labels selected.
    """

    position = traitlets.Dict(help="axis -> position, in its unit, of those that are not drawn")
    channels = traitlets.Union(
        [traitlets.Dict(), traitlets.List(traitlets.Unicode())],
        default_value={},
        help="channel -> how it is drawn: active, color, window (None: automatic), gamma, inverted,"
        " colormap. Set to a dict with changes, or to a list of the channels to show.",
    )
    viewport = traitlets.Dict(help="axis -> (start, end) of what the canvas shows, in the unit")
    roi = traitlets.Any(
        None,
        allow_none=True,
        help="the region drawn, for .ngff.sel and masks: a Roi or None. Set to a Roi, or to a dict "
        "of both axes, each (start, end), for a rectangle, or to GeoJSON: .to_geojson() is the way "
        "back.",
    )
    selection = traitlets.Any(
        (), help="the ids of the labels that are selected. Set to any that there are, as a table's."
    )
    projection = traitlets.Enum(
        ["max", "mean", "min"], None, allow_none=True, help="over the third axis of space"
    )
    tool = traitlets.Enum(list(TOOLS), "pan", help="what a drag or a click does")
    ortho = traitlets.Bool(False, help="whether all three planes of a volume are shown")

    def __init__(
        self,
        world: World,
        *,
        height: int = 480,
        shown: Sequence[str] = (),
        clicked: Callable[[float, float], None] | None = None,
        tools: bool = True,
    ) -> None:
        self.world = world
        self._clicked = clicked
        self._server = TileServer(world, caches=_caches())
        self._is_closed = False
        self._quiet = controls.Quiet()
        self._call_soon = call_soon()
        self._main = Pane(
            world,
            self._server,
            label=_spoken(world),
            height=height,
            moved=self._on_moved,
            clicked=self._on_clicked,
        )
        self._sides: tuple[Pane, ...] = ()
        view = _with_labels(self._main.view, world, shown)
        self._keys = _channel_keys(world)
        self._windows: dict[str, tuple[float, float]] = {}
        self._looked_at: set[str] = set()
        self._main.view = view
        self._stage = widgets.Box(
            [self._main.canvas], layout=widgets.Layout(flex="1 1 320px", min_width="0")
        )
        self._build(view, tools=tools)
        self._follow(view)
        super().__init__(self._rows(), layout=widgets.Layout(width="100%"))
        self.add_class("ngff-whole")  # what the full screen takes along
        self._main.canvas.observe(self._on_canvas_roi, "roi")
        self._main.canvas.observe(self._on_canvas_selection, "selection")
        self._cross = view.center
        self._depth = ""

    # ---- the controls ----------------------------------------------------------------------

    def _build(self, view: View, *, tools: bool) -> None:
        """Make the controls that this world has a use for."""
        self._sliders = {
            dim.name: controls.AxisSlider(dim, partial(self._move, dim.name))
            for dim in self.world.dims
            if dim.count > 1
        }
        self._channel_rows: dict[str, controls.ChannelRow] = {}
        self._channel_box = widgets.VBox()
        self._choice = None
        if len(self._keys) > controls.MOST_ROWS:
            self._choice = controls.chooser(list(self._keys), self._active(view))
            self._choice.observe(self._on_choice, "value")
        self._label_rows = {
            (layer.name, label.name): controls.LabelRow(
                label, partial(self._change_label, layer.name, label.name)
            )
            for layer in view.layers
            for label in layer.labels[:_MOST_LABELS]
        }
        self._layer_rows = {
            layer.name: controls.LayerRow(layer, partial(self._change_layer, layer.name))
            for layer in view.layers
            if len(view.layers) > 1
        }
        self._tools = widgets.ToggleButtons(
            options=[(text, tool) for tool, text in TOOLS.items()],
            style={"button_width": "auto"},
            tooltips=[f"{text}: what a drag or a click does" for text in TOOLS.values()],
        )
        widgets.link((self, "tool"), (self._tools, "value"))
        self._tools.observe(self._on_tool, "value")
        bar: list[widgets.Widget] = [self._tools] if tools else []
        if any(layer.depth for layer in self.world.layers):
            names = {_ONE_PLANE: None, "max": "max", "mean": "mean", "min": "min"}
            texts = [("one plane", _ONE_PLANE), *((f"{p} projection", p) for p in list(names)[1:])]
            projections = widgets.Dropdown(
                options=texts,
                tooltip="one plane, or a projection over the third axis of space",
                layout=widgets.Layout(width="150px"),
            )
            widgets.link(
                (self, "projection"),
                (projections, "value"),
                transform=(lambda name: name or _ONE_PLANE, names.__getitem__),
            )
            bar.append(projections)
        if len(self.world.space) == 3:
            planes = widgets.ToggleButton(
                description="Ortho",
                icon="th-large",
                tooltip="show all three planes",
                layout=widgets.Layout(width="90px"),
            )
            widgets.link((self, "ortho"), (planes, "value"))
            bar.append(planes)
        self._bar = widgets.HBox(bar, layout=widgets.Layout(flex_flow="row wrap"))

    def _rows(self) -> list[widgets.Widget]:
        panel: list[widgets.Widget] = []
        if self._layer_rows:
            panel += [
                controls.heading("Layers"),
                *(row.widget for row in self._layer_rows.values()),
            ]
        if self._keys:
            panel.append(controls.heading("Channels"))
            panel += [self._choice] if self._choice else []
            panel.append(self._channel_box)
        if self._label_rows:
            panel += [
                controls.heading(self._labels_title()),
                *(row.widget for row in self._label_rows.values()),
            ]
        # no higher than the canvas: the sliders below are to stay in reach of it
        layout = widgets.Layout(
            flex="0 1 250px",
            min_width="200px",
            max_height=f"{max(self._main.canvas.height + 48, 240)}px",
            overflow="hidden auto",
        )
        # in a box of its own, that is not squeezed where there is no room for all
        whole = widgets.VBox(panel, layout=widgets.Layout(flex="0 0 auto"))
        side = widgets.VBox([whole], layout=layout)
        middle = widgets.HBox(
            [self._stage, side] if panel else [self._stage],
            layout=widgets.Layout(flex_flow="row wrap", align_items="flex-start", width="100%"),
        )
        return [self._bar, middle, *(slider.widget for slider in self._sliders.values())]

    def _labels_title(self) -> str:
        count = sum(len(layer.labels) for layer in self.view.layers)
        shown = len(self._label_rows)
        return "Labels" if shown == count else f"Labels ({shown} of {count})"

    # ---- one state -------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """All that decides what is seen, frozen; see `ngff_xarray.viewing.View`."""
        return self._main.view

    def show(self, view: View) -> None:
        """Show a view: the canvas, the controls and the traits follow."""
        with STATE:
            self._main.show(view)
            self._follow(view)
            self._show_sides()

    def _follow(self, view: View) -> None:
        """Let the traits and the controls say what is seen."""
        with self._quiet.told(), self.hold_trait_notifications():
            self.position = view.place
            self.channels = self._described(view)
            self.viewport = _viewport(view, self.world)
            self.projection = view.projection
        for name, slider in self._sliders.items():
            slider.show(view.place[name])
        self._show_channels(view)
        for (layer, label), row in self._label_rows.items():
            row.show(next(each for each in view.layer(layer).labels if each.name == label))
        for name, layer_row in self._layer_rows.items():
            layer_row.show(view.layer(name))

    def _described(self, view: View) -> dict[str, dict[str, Any]]:
        return {key: _described(self._channel(view, key)) for key in self._keys}

    def _channel(self, view: View, key: str) -> ChannelView:
        layer, name = self._keys[key]
        return next(each for each in view.layer(layer).channels if each.name == name)

    def _active(self, view: View) -> list[str]:
        return [key for key in self._keys if self._channel(view, key).active]

    def _show_channels(self, view: View) -> None:
        """Show the rows of all channels, or of those that are drawn where there are many."""
        active = self._active(view)
        wanted = list(self._keys) if self._choice is None else active[: controls.MOST_ROWS]
        for key in wanted:
            if key not in self._channel_rows:
                layer, _ = self._keys[key]
                self._channel_rows[key] = controls.ChannelRow(
                    self._channel(view, key),
                    is_integer=self.world.layer(layer).dtype.kind in "iu",
                    changed=partial(self._change_channel, key),
                )
        for key in wanted:
            channel = self._channel(view, key)
            self._channel_rows[key].show(channel, channel.window or self._windows.get(key))
        rows = tuple(self._channel_rows[key].widget for key in wanted)
        if self._channel_box.children != rows:
            self._channel_box.children = rows
        if self._choice is not None:
            with self._quiet.told():
                self._choice.value = tuple(wanted)
        self._look_at_values(active)

    # ---- what a person changes -------------------------------------------------------------

    def _move(self, dim: str, position: float) -> None:
        self.show(self.view.at(**{dim: position}))

    def _change_channel(self, key: str, changes: Mapping[str, Any]) -> None:
        layer, name = self._keys[key]
        self.show(self.view.with_channel(layer, name, **changes))

    def _change_label(self, layer: str, label: str, changes: Mapping[str, Any]) -> None:
        self.show(self.view.with_label(layer, label, **changes))

    def _change_layer(self, layer: str, changes: Mapping[str, Any]) -> None:
        self.show(self.view.with_layer(layer, **changes))

    def _on_choice(self, change: Any) -> None:
        if not self._quiet.is_told:
            self.channels = list(change["new"])[: controls.MOST_ROWS]

    def _on_tool(self, change: Any) -> None:
        for pane in (self._main, *self._sides):
            pane.canvas.tool = change["new"]

    def _on_moved(self, view: View) -> None:
        self._follow(view)
        self._show_sides()

    def _on_canvas_roi(self, change: Any) -> None:
        try:
            found = roi_of(change["new"], (self.world.right, self.world.down), self.world.unit)
        except (SelectionError, TypeError, ValueError):
            return
        self.roi = found

    def _on_canvas_selection(self, change: Any) -> None:
        self.selection = tuple(int(label) for label in change["new"] if label.isdecimal())

    def _on_clicked(self, x: float, y: float) -> None:
        if self.ortho:
            self._cross = (x, y)
            self._show_sides()
        if self._clicked is not None:
            self._clicked(x, y)

    # ---- what the kernel changes -----------------------------------------------------------

    @traitlets.validate("channels")
    def _check_channels(self, proposal: Any) -> dict[str, dict[str, Any]]:
        wanted = proposal["value"]
        now = self._described(self.view)
        if not isinstance(wanted, Mapping):
            wanted = {key: {"active": key in wanted} for key in {**now, **dict.fromkeys(wanted)}}
        unknown = [key for key in wanted if key not in now]
        if unknown:
            choices = ", ".join(now) or "none"
            raise SelectionError(f"there is no channel {unknown[0]!r}; the channels are {choices}")
        return {key: {**said, **wanted.get(key, {})} for key, said in now.items()}

    @traitlets.observe("channels")
    def _on_channels(self, change: Any) -> None:
        if self._quiet.is_told:
            return
        with STATE:
            view = self.view
            for key, said in change["new"].items():
                layer, name = self._keys[key]
                view = view.with_channel(layer, name, **_parsed(said))
            self.show(view)

    @traitlets.validate("position")
    def _check_position(self, proposal: Any) -> dict[str, float]:
        known = {dim.name: dim for dim in self.world.dims}
        found = dict(self.view.place)
        for name, place in proposal["value"].items():
            if name not in known:
                choices = ", ".join(known) or "none"
                raise SelectionError(f"there is no axis {name!r} to move along; have {choices}")
            found[name] = (
                float(place)
                if isinstance(place, int | float)
                else units.magnitude(place, known[name].unit)
            )
        return found

    @traitlets.observe("position")
    def _on_position(self, change: Any) -> None:
        if not self._quiet.is_told:
            with STATE:
                self.show(self.view.at(**change["new"]))

    @traitlets.observe("viewport")
    def _on_viewport(self, change: Any) -> None:
        if not self._quiet.is_told:
            with STATE:
                self.show(_looking_at(self.view, self.world, change["new"]))

    @traitlets.observe("projection")
    def _on_projection(self, change: Any) -> None:
        if not self._quiet.is_told:
            with STATE:
                self.show(replace(self.view, projection=change["new"]))

    @traitlets.validate("roi")
    def _check_roi(self, proposal: Any) -> Roi | None:
        wanted = proposal["value"]
        if wanted is None or isinstance(wanted, Roi):
            return wanted
        axes = (self.world.right, self.world.down)
        if hasattr(wanted, "__geo_interface__") or (
            isinstance(wanted, Mapping) and isinstance(wanted.get("type"), str)
        ):
            return _only(Roi.from_geojson(wanted), axes, self.world.unit)
        if not isinstance(wanted, Mapping) or set(wanted) != set(axes):
            raise SelectionError(
                f"roi: expected a Roi, None, or a dict of {' and '.join(axes)}, found {wanted!r}"
            )
        (left, right), (top, bottom) = (_span(wanted[axis], self.world.unit) for axis in axes)
        return Roi("rectangle", ((left, top), (right, bottom)), axes, self.world.unit)

    @traitlets.observe("roi")
    def _on_roi(self, change: Any) -> None:
        roi = change["new"]
        said = roi and {"kind": roi.kind, "points": [list(point) for point in roi.points]}
        if self._main.canvas.roi != said:
            self._main.canvas.roi = said

    @traitlets.validate("selection")
    def _check_selection(self, proposal: Any) -> tuple[int, ...]:
        wanted = proposal["value"]
        try:
            return tuple(int(label) for label in wanted)
        except (TypeError, ValueError) as error:
            raise SelectionError(
                f"selection: expected ids of labels, as (3, 7), found {printable(wanted, 80)}"
            ) from error

    @traitlets.observe("selection")
    def _on_selection(self, change: Any) -> None:
        ids = [str(label) for label in change["new"]]
        if self._main.canvas.selection != ids:
            self._main.canvas.selection = ids
        chosen = frozenset(change["new"])
        view = self.view
        for layer in view.layers:
            for label in layer.labels:
                view = view.with_label(layer.name, label.name, selected=chosen)
        self.show(view)

    # ---- three planes ----------------------------------------------------------------------

    @traitlets.observe("ortho")
    def _on_ortho(self, change: Any) -> None:
        if not change["new"]:
            for pane in self._sides:
                pane.close()
            self._sides = ()
            self._main.canvas.crosshair = None
            self._stage.children = [self._main.canvas]
            return
        depth = next(
            name for name in self.world.space if name not in (self.world.down, self.world.right)
        )
        self._depth = depth
        self._cross = self.view.center
        self._sides = tuple(
            self._side(plane) for plane in ((self.world.down, depth), (depth, self.world.right))
        )
        right, below = self._sides
        self._stage.children = [
            widgets.GridBox(
                [self._main.canvas, right.canvas, below.canvas],
                layout=widgets.Layout(
                    width="100%",
                    grid_template_columns="minmax(0, 2fr) minmax(0, 1fr)",
                    grid_gap="4px",
                    align_content="flex-start",
                ),
            )
        ]
        self._show_sides(first=True)

    def _side(self, plane: tuple[str, str]) -> Pane:
        world = self.world.on(plane)
        height = self._main.canvas.height
        down, right = plane
        return Pane(
            world,
            TileServer(world, share=self._server),
            label=f"plane of {printable(right)} and {printable(down)}",
            height=height if right == self._depth else height // 2,
            moved=lambda view: None,
            clicked=partial(self._on_side_clicked, plane),
        )

    def _on_side_clicked(self, plane: tuple[str, str], x: float, y: float) -> None:
        at = dict(zip(reversed(plane), (x, y), strict=True))
        here = dict(zip((self.world.right, self.world.down), self._cross, strict=True)) | at
        self._cross = (here[self.world.right], here[self.world.down])
        self._move(self._depth, at[self._depth] / self._depth_factor())

    def _depth_factor(self) -> float:
        """Return what a position along the third axis is in the unit of the world."""
        found = {dim.name: dim for dim in self.world.dims}[self._depth]
        return units.factor(found.unit, self.world.unit)

    def _show_sides(self, *, first: bool = False) -> None:
        """Let the other planes show what the main one does, where the crosshair is."""
        if not self._sides:
            return
        main = self.view
        x, y = self._cross
        self._main.canvas.crosshair = [x, y]
        here = {
            self.world.right: x,
            self.world.down: y,
            self._depth: main.place[self._depth] * self._depth_factor(),
        }
        middle = dict(zip((self.world.right, self.world.down), main.center, strict=True))
        for pane in self._sides:
            world = pane.world
            old = dict(zip((world.right, world.down), pane.view.center, strict=True))
            center = {**old, **{k: v for k, v in middle.items() if k in old}}
            place = {
                dim.name: main.place.get(dim.name, here.get(dim.name, 0.0)) for dim in world.dims
            }
            view = View(
                position=tuple(place.items()),
                center=(center[world.right], center[world.down]),
                scale=main.scale,
                size=pane.view.size,
                ratio=pane.view.ratio,
                layers=tuple(main.layer(layer.name) for layer in world.layers),
                lossless=main.lossless,
            )
            pane.canvas.crosshair = [here[world.right], here[world.down]]
            pane.canvas.tool = "pan"
            pane.show(view)

    # ---- what is read in the background ----------------------------------------------------

    def _look_at_values(self, keys: Sequence[str]) -> None:
        """Find histograms and automatic windows, where a canvas need not wait for them."""
        for key in keys:
            if key not in self._looked_at:
                self._looked_at.add(key)
                self._server.look(partial(self._look_at, key))

    def _look_at(self, key: str) -> None:
        layer, name = self._keys[key]
        try:
            window = self._server.window(layer, name)
            counts, edges = self._server.histogram(layer, name)
        except Exception:  # whatever a store raises: the tiles say so
            return
        self._soon(partial(self._describe_channel, key, window, counts, edges))

    def _describe_channel(
        self, key: str, window: tuple[float, float], counts: Any, edges: Any
    ) -> None:
        if self._is_closed:
            return
        self._windows[key] = window
        row = self._channel_rows.get(key)
        if row is not None:
            row.describe(counts, edges)
            channel = self._channel(self.view, key)
            row.show(channel, channel.window or window)

    def _soon(self, act: Callable[[], None]) -> None:
        if self._call_soon is None:
            act()
            return
        try:
            self._call_soon(act)
        except RuntimeError:  # the notebook was closed meanwhile
            return

    # ---- for the kernel --------------------------------------------------------------------

    def link(
        self, other: Viewer, what: Sequence[str] = ("viewport", "position")
    ) -> Callable[[], None]:
        """Let another viewer show the same place as this one, and the other way round.

        Parameters
        ----------
        other
            Another viewer.
        what
            Which traits are shared: ``"viewport"``, ``"position"``; of positions, the axes that
            both have.

        Returns
        -------
        callable
            Ends the link.
        """
        busy = False

        def follow(target: Viewer, change: Any) -> None:
            nonlocal busy
            with STATE:  # so that who is busy is this thread
                if busy:
                    return
                busy = True
                try:
                    _copy(change["owner"], target, change["name"])
                finally:
                    busy = False

        handlers = [(self, partial(follow, other)), (other, partial(follow, self))]
        for viewer, handler in handlers:
            viewer.observe(handler, list(what))
        for name in what:
            follow(other, {"owner": self, "name": name})

        def unlink() -> None:
            for viewer, handler in handlers:
                viewer.unobserve(handler, list(what))

        return unlink

    def mark(self, point: tuple[float, float] | None) -> None:
        """Mark a point of the world with a crosshair, or none."""
        self._main.canvas.crosshair = None if point is None else list(point)

    def refresh(self) -> None:
        """Draw what is seen anew, where that is other than it was."""
        self._looked_at.clear()
        self._look_at_values(self._active(self.view))
        for pane in (self._main, *self._sides):
            pane.refresh()

    def screenshot(self, path: Any = None, *, ratio: float = 1.0) -> NDArray[np.uint8]:
        """Return what is seen, drawn by the kernel: no browser is needed.

        Parameters
        ----------
        path
            Where to write it as PNG, if anywhere.
        ratio
            Pixels a CSS pixel of the canvas.

        Returns
        -------
        ndarray
            uint8 (y, x, 3).
        """
        pixels = self._server.picture(self.view.moved(ratio=ratio))
        if path is not None:
            from pathlib import Path

            Path(path).write_bytes(render.png(pixels))
        return pixels

    def close(self) -> None:
        """End the viewer: its threads, its controls, and what is kept of its images."""
        if self._is_closed:
            return
        self._is_closed = True
        for pane in (self._main, *self._sides):
            pane.close()
        self._server.close()
        for slider in self._sliders.values():
            slider.unlink()
        for row in self._channel_rows.values():
            controls.close(row.widget)
        controls.close(*self.children)
        self.layout.close()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Return the widget, and a picture and text for where no widget can be shown."""
        beside = PictureBundle(self.picture, _spoken(self.world))
        return beside.beside(super()._repr_mimebundle_(**kwargs))

    def picture(self) -> bytes:
        """Return what is seen as a small PNG."""
        return render.png(self._server.picture(_small(self.view)))


def view(
    obj: Obj | Sequence[Obj] | Mapping[str, Obj],
    *,
    labels: Labels = None,
    channels: Sequence[str] | str | None = None,
    height: int = 480,
    **position: Any,
) -> Viewer:
    """Return a viewer of an image, or of several images in one world.

    Parameters
    ----------
    obj
        An image, a label image, a level or an array; several of them, bottom first, or by name.
        They are drawn where their coordinates say.
    labels
        Label images to show from the start: a name, a list of names, True for all, or a label
        image. The others can be switched on.
    channels
        Names of the channels to show; by default those that the store calls active.
    height
        CSS pixels of the canvas; its width is that of the page.
    **position
        Where to begin on the axes that are not drawn: ``z="3 µm"``, ``t=0``.

    Raises
    ------
    NotOmeError
        If there is no image to draw.
    SelectionError
        If there is no such channel, label image or axis.

    Examples
    --------
    >>> import xarray as xr
    >>> from ngff_xarray import sample
    >>> viewer = view(xr.open_datatree(sample("cell")), labels="cell")
    >>> list(viewer.channels), viewer.screenshot().shape
    (['phase'], (480, 720, 3))
    >>> viewer.close()
    """
    given = labels if not isinstance(labels, str | bool | list | tuple | None) else True
    world = make_world(obj, labels=given)
    wanted = _wanted_labels(world, labels)
    found = Viewer(world, height=height, shown=wanted)
    try:
        if channels is not None:
            found.channels = [channels] if isinstance(channels, str) else list(channels)
        if position:
            found.position = position
    except NgffError:
        found.close()
        raise
    return found


def _wanted_labels(world: World, labels: Labels) -> list[str]:
    """Return the names of the label images to show from the start."""
    known = [label.name for layer in world.layers for label in layer.labels]
    if labels is None or labels is False:
        return []
    if not isinstance(labels, str | list | tuple):
        return known
    names = [labels] if isinstance(labels, str) else list(labels)
    unknown = [name for name in names if name not in known]
    if unknown:
        choices = ", ".join(known) or "none"
        raise SelectionError(f"there is no label image {unknown[0]!r}; have {choices}")
    return names


def _with_labels(view: View, world: World, shown: Sequence[str]) -> View:
    for layer in world.layers:
        for label in layer.labels:
            view = view.with_label(layer.name, label.name, visible=label.name in shown)
    return view


def _channel_keys(world: World) -> dict[str, tuple[str, str]]:
    """Return what each channel is called: its name, after its layer's where there are several."""
    several = sum(bool(layer.channels) and layer.kind == "image" for layer in world.layers) > 1
    return {
        f"{layer.name}: {channel.name}" if several else channel.name: (layer.name, channel.name)
        for layer in world.layers
        if layer.kind == "image"
        for channel in layer.channels
    }


def _described(channel: ChannelView) -> dict[str, Any]:
    return {
        "active": channel.active,
        "color": hex_color(channel.color),
        "window": channel.window,
        "gamma": channel.gamma,
        "inverted": channel.inverted,
        "colormap": channel.colormap,
    }


def _parsed(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a channel is to look like, from what `_described` gives or a person wrote."""
    unknown = [key for key in said if key not in ChannelView.__dataclass_fields__]
    if unknown:
        choices = "active, color, window, gamma, inverted, colormap"
        raise SelectionError(f"a channel has no {unknown[0]!r}; expected {choices}")
    found = dict(said)
    if isinstance(found.get("color"), str):
        found["color"] = controls.rgb(found["color"])
    if found.get("window") is not None:
        start, end = found["window"]
        found["window"] = (float(start), float(end))
    return found


def _viewport(view: View, world: World) -> dict[str, tuple[float, float]]:
    left, top, right, bottom = view.extent
    return {world.right: (left, right), world.down: (top, bottom)}


def _looking_at(view: View, world: World, wanted: Mapping[str, Any]) -> View:
    """Return the view in which a viewport fits; an axis that is not given stays."""
    spans = _viewport(view, world)
    unknown = [name for name in wanted if name not in spans]
    if unknown:
        choices = ", ".join(spans)
        raise SelectionError(f"viewport: expected axes {choices}, found {unknown[0]!r}")
    given = {name: _span(span, world.unit) for name, span in wanted.items()}
    spans |= given
    x, y = spans[world.right], spans[world.down]
    scales = [
        (end - start) / size
        for name, (start, end), size in zip(
            (world.right, world.down), (x, y), view.size, strict=True
        )
        if name in given
    ]
    center = ((x[0] + x[1]) / 2, (y[0] + y[1]) / 2)
    return view.moved(center, max(scales, default=view.scale))


def _only(found: Sequence[Roi], axes: tuple[str, str], unit: str | None) -> Roi:
    """Return the one region of GeoJSON, in the unit of the viewer, which those without are in."""
    if len(found) != 1:
        raise SelectionError(
            f"roi: a viewer shows one region, found {len(found)}: set one of Roi.from_geojson(…)"
        )
    (roi,) = found
    if roi.axes != axes:
        raise SelectionError(f"roi: expected a region along {axes}, found one along {roi.axes}")
    factor = units.factor(roi.unit, unit)
    return Roi(roi.kind, tuple((x * factor, y * factor) for x, y in roi.points), axes, unit)


def _span(span: Any, unit: str | None) -> tuple[float, float]:
    ends = (span.start, span.stop) if isinstance(span, slice) else tuple(span)
    start, end = (
        float(end) if isinstance(end, int | float) else units.magnitude(end, unit) for end in ends
    )
    if not start < end:
        raise SelectionError(f"expected a start below its end, found {start}, {end}")
    return start, end


def _copy(source: Viewer, target: Viewer, name: str) -> None:
    """Let a viewer show what another one does, as far as they have the same axes."""
    factor = units.factor(source.world.unit, target.world.unit)
    if name == "viewport" and list(source.viewport) == list(target.viewport):
        # not its ends: of two canvases of other proportions each would show more than the other
        x, y = source.view.center
        target.show(target.view.moved((x * factor, y * factor), source.view.scale * factor))
        return
    if name == "viewport":
        target.viewport = {
            axis: (start * factor, end * factor)
            for axis, (start, end) in source.viewport.items()
            if axis in target.viewport
        }
        return
    if name != "position":
        setattr(target, name, getattr(source, name))
        return
    own = {dim.name: dim.unit for dim in source.world.dims}
    theirs = {dim.name: dim.unit for dim in target.world.dims}
    target.position = {
        axis: place * units.factor(own[axis], theirs[axis])
        for axis, place in source.position.items()
        if axis in theirs
    }


def carried_over(source: Viewer, target: Viewer, *, windows: bool = False) -> None:
    """Let a viewer draw what another one does: channels, position, labels, as far as it has them.

    Parameters
    ----------
    source, target
        The viewers.
    windows
        Whether channels whose windows are automatic keep those that were found.
    """
    found = {key: dict(said) for key, said in source.channels.items() if key in target.channels}
    if windows:
        for key, said in found.items():
            said["window"] = said["window"] or source._windows.get(key)
    target.channels = found
    with suppress(NgffError):  # units that do not fit: where it begins is as good
        _copy(source, target, "position")
    shown = {
        label.name: label for layer in source.view.layers for label in layer.labels if label.visible
    }
    view = target.view
    for layer in view.layers:
        for label in layer.labels:
            if (same := shown.get(label.name)) is not None:
                view = view.with_label(
                    layer.name,
                    label.name,
                    visible=True,
                    opacity=same.opacity,
                    outline=same.outline,
                )
    target.show(replace(view, projection=source.view.projection))


def _small(view: View) -> View:
    """Return the view on a canvas small enough for a picture beside the widget."""
    width, height = view.size
    factor = min(1.0, _PICTURE / max(width, height))
    return view.moved(scale=view.scale / factor, size=(width * factor, height * factor), ratio=1.0)


def _spoken(world: World) -> str:
    """Return what a viewer shows, as text."""
    names = ", ".join(printable(layer.name) for layer in world.layers)
    sizes = _size(world.layers[0]) if world.layers else ""
    return f"viewer of {names}{sizes}"


def _size(layer: Layer) -> str:
    level = layer.levels[0]
    return (
        " ("
        + ", ".join(
            f"{printable(dim)} {size}"
            for dim, size in zip(level.dims, level.source.shape, strict=True)
        )
        + ")"
    )
