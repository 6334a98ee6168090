"""The controls around a canvas: ordinary ipywidgets, for keyboards and screen readers alike.

Each is made of a name and a range, shows a state that it is given, and says what a person changed.
None knows an image.
"""

from __future__ import annotations

import html
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np
from numpy.typing import NDArray

from ngff_xarray.render import hex_color
from ngff_xarray.text import printable
from ngff_xarray.viewing import ChannelView, Dimension, LabelView, LayerView
from ngff_xarray.widgets.state import STATE

if TYPE_CHECKING:
    from collections.abc import Iterator

Changed = Callable[[dict[str, Any]], None]

MOST_ROWS = 8  # channels whose controls are shown at once
_BARS = 64  # of a histogram
_NAME = "120px"
_ECHO = 1.0  # seconds until a browser has said again what it was told


class Quiet:
    """Controls that are told a state, and must not take that for a person's change."""

    def __init__(self) -> None:
        # a notebook may handle one message in another thread than the next
        self._here = threading.local()

    @property
    def is_told(self) -> bool:
        """Whether changes that this thread makes are not a person's."""
        return getattr(self._here, "is_told", False)

    @contextmanager
    def told(self) -> Iterator[None]:
        """While in here, changes are not a person's."""
        before, self._here.is_told = self.is_told, True
        try:
            yield
        finally:
            self._here.is_told = before

    def watch(self, widget: widgets.Widget, act: Callable[[Any], None]) -> None:
        """Call a function with each new value that a person gave a widget."""

        def on_change(change: Any) -> None:
            if not self.is_told:
                with STATE:
                    act(change["new"])

        widget.observe(on_change, names="value")


class AxisSlider(Quiet):
    """A slider along an axis that is not drawn, with its value in units, and a player.

    Parameters
    ----------
    dimension
        The axis.
    moved
        Is called with the new position, in the axis's unit.
    """

    def __init__(self, dimension: Dimension, moved: Callable[[float], None]) -> None:
        super().__init__()
        self._dimension = dimension
        last = dimension.count - 1
        name = printable(dimension.long_name or dimension.name, 20)
        self.slider = widgets.IntSlider(
            0,
            0,
            last,
            description=name,
            readout=False,
            tooltip=f"position along {name}",
            layout=widgets.Layout(flex="1 1 120px", min_width="120px"),
        )
        self.text = widgets.Label(layout=widgets.Layout(min_width="90px"))
        self.play = widgets.Play(
            value=0,
            min=0,
            max=last,
            interval=150,
            show_repeat=False,
            tooltip=f"play along {name}",
            layout=widgets.Layout(flex="0 0 auto"),
        )
        # in the browser: the kernel hears of each position once
        self._link = widgets.jslink((self.play, "value"), (self.slider, "value"))
        self.watch(self.slider, lambda index: moved(dimension.at(index)))
        self.slider.observe(self._describe, names="value")
        self._describe()
        self.widget = widgets.HBox(
            [self.slider, self.text, self.play], layout=widgets.Layout(flex_flow="row wrap")
        )

    def unlink(self) -> None:
        """Let the player go its own way."""
        self._link.unlink()

    def show(self, position: float) -> None:
        """Stand at a position."""
        with self.told():
            self.slider.value = self._dimension.index(position)

    def _describe(self, change: Any = None) -> None:
        self.text.value = self._dimension.text(self._dimension.at(self.slider.value))


class ChannelRow(Quiet):
    """A channel: on or off, its colour, and its window over a histogram.

    Parameters
    ----------
    channel
        What it is called and how it begins.
    is_integer
        Whether its values are integers.
    changed
        Is called with what a person changed: ``active``, ``color`` or ``window``.
    """

    def __init__(self, channel: ChannelView, *, is_integer: bool, changed: Changed) -> None:
        super().__init__()
        name = printable(channel.name, 30)
        self._is_integer = is_integer
        self._changed = changed
        self._shown = (math.inf, math.inf)  # the window that was told last
        self._told: deque[tuple[float, tuple[float, float]]] = deque(maxlen=8)  # when, and which
        self._is_fresh = True  # the slider does not know its range yet
        self.active = widgets.Checkbox(
            channel.active,
            description=name,
            indent=False,
            tooltip=f"show {name}",
            layout=widgets.Layout(width=_NAME),
        )
        self.color = widgets.ColorPicker(
            concise=True,
            value=hex_color(channel.color),
            tooltip=f"colour of {name}",
            layout=widgets.Layout(width="32px"),
        )
        self.auto = widgets.Button(
            description="auto",
            tooltip=f"choose the window of {name} by its values",
            layout=widgets.Layout(width="52px"),
        )
        self.histogram = widgets.HTML(layout=widgets.Layout(height="34px", margin="0"))
        self.window = widgets.FloatRangeSlider(
            value=(0, 1),
            min=0,
            max=1,
            step=0.01,
            readout_format=",d" if is_integer else ".4g",
            tooltip=f"window of {name}: the values drawn from black to its colour",
            layout=widgets.Layout(width="auto"),
        )
        self.watch(self.active, lambda value: changed({"active": value}))
        self.watch(self.color, lambda value: changed({"color": rgb(value)}))
        self.watch(self.window, self._on_window)
        self.auto.on_click(self._on_auto)
        row = widgets.HBox([self.active, self.color, self.auto])
        both = widgets.VBox([self.histogram, self.window])
        both.add_class("ngff-window")  # the histogram is as wide as the slider's track
        self.widget = widgets.VBox([row, both])
        self.show(channel, channel.window)

    def _on_auto(self, button: widgets.Button) -> None:
        with STATE:
            self._changed({"window": None})

    def _on_window(self, value: tuple[float, float]) -> None:
        # a browser says a window again as its steps have it, perhaps after another one was told:
        # that is not a person's choice
        now = time.monotonic()
        lately = [window for when, window in self._told if now - when < _ECHO]
        if all(self._differ(value, window) for window in (self._shown, *lately)):
            self._changed({"window": tuple(value)})

    def _differ(self, value: tuple[float, float], window: tuple[float, float]) -> bool:
        moved = (abs(new - old) for new, old in zip(value, window, strict=True))
        return max(moved) > float(self.window.step) / 2

    def show(self, channel: ChannelView, window: tuple[float, float] | None) -> None:
        """Show how the channel is drawn, and with which window, where that is known."""
        with self.told():
            self.active.value = channel.active
            self.color.value = hex_color(channel.color)
            if window is not None:
                self._stand(*sorted(window))

    def describe(self, counts: NDArray[np.int64], edges: NDArray[np.float64]) -> None:
        """Show how often values occur, and let the window reach over all of them."""
        with self.told():
            if counts.size:
                low, high = float(edges[0]), float(edges[-1])
                if self._is_integer:  # bins lie around the integers, handles on them
                    low, high = float(math.ceil(low)), float(math.floor(high))
                self._stand(*self.window.value, low, high)
            self.histogram.value = _bars(counts, edges, self.window.min, self.window.max)

    def _stand(self, start: float, end: float, *more: float) -> None:
        """Stand at a window, and let the slider reach there and to more values, if not already."""
        window = self.window
        known = [start, end, *more, *(() if self._is_fresh else (window.min, window.max))]
        if not all(map(math.isfinite, known)):
            return
        self._is_fresh = False
        low, high = min(known), max(known)
        high = high if high > low else low + 1
        # in one message: a browser would move the handles of a range that is not whole yet
        with window.hold_sync():
            # a slider refuses a smallest value above its largest
            window.max = max(high, window.max)
            window.min = low
            window.max = high
            window.step = 1 if self._is_integer else float(f"{(high - low) / 1000:.2g}")
            if tuple(window.value) != (start, end):
                self._told.append((time.monotonic(), (start, end)))
            window.value = self._shown = (start, end)


def rgb(text: str) -> tuple[int, int, int]:
    """Return the colour that a browser's picker calls ``#rrggbb`` (or ``#rgb``)."""
    digits = text.lstrip("#")
    if len(digits) == 3:
        digits = "".join(2 * digit for digit in digits)
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def _bars(counts: NDArray[np.int64], edges: NDArray[np.float64], low: float, high: float) -> str:
    """Return a histogram over a range as SVG: heights are logarithms, for most pixels are dark."""
    if not counts.size or high <= low or not counts.any():
        return ""
    middles = (edges[:-1] + edges[1:]) / 2
    bins = np.clip(((middles - low) / (high - low) * _BARS).astype(int), 0, _BARS - 1)
    sums = np.bincount(bins, weights=counts, minlength=_BARS)
    heights = np.log1p(sums) / np.log1p(np.max(sums))
    points = " ".join(
        f"{i},{30 * (1 - h):.1f} {i + 1},{30 * (1 - h):.1f}" for i, h in enumerate(heights)
    )
    return (
        f"<svg viewBox='0 0 {_BARS} 30' preserveAspectRatio='none' role='img' "
        "aria-label='histogram' style='width:100%;height:30px;display:block'>"
        f"<polygon points='0,30 {points} {_BARS},30' fill='currentColor' opacity='0.45'/></svg>"
    )


class LabelRow(Quiet):
    """A label image: shown or not, how opaque, and whether as outlines."""

    def __init__(self, label: LabelView, changed: Changed) -> None:
        super().__init__()
        name = printable(label.name, 30)
        self.visible = widgets.Checkbox(
            label.visible,
            description=name,
            indent=False,
            tooltip=f"show the labels {name}",
            layout=widgets.Layout(width=_NAME),
        )
        self.outline = widgets.Checkbox(
            label.outline,
            description="outline",
            indent=False,
            tooltip=f"draw {name} as outlines",
            layout=widgets.Layout(width="90px"),
        )
        self.opacity = _opacity(label.opacity, f"opacity of {name}")
        self.watch(self.visible, lambda value: changed({"visible": value}))
        self.watch(self.outline, lambda value: changed({"outline": value}))
        self.watch(self.opacity, lambda value: changed({"opacity": value}))
        self.widget = widgets.VBox([widgets.HBox([self.visible, self.outline]), self.opacity])

    def show(self, label: LabelView) -> None:
        """Show how the label image is drawn."""
        with self.told():
            self.visible.value = label.visible
            self.outline.value = label.outline
            self.opacity.value = label.opacity
        # many label images are a long list
        self.opacity.layout.display = None if label.visible else "none"


class LayerRow(Quiet):
    """A layer of several: shown or not, and how opaque."""

    def __init__(self, layer: LayerView, changed: Changed) -> None:
        super().__init__()
        name = printable(layer.name, 30)
        self.visible = widgets.Checkbox(
            layer.visible, description=name, indent=False, tooltip=f"show {name}"
        )
        self.opacity = _opacity(layer.opacity, f"opacity of {name}")
        self.watch(self.visible, lambda value: changed({"visible": value}))
        self.watch(self.opacity, lambda value: changed({"opacity": value}))
        self.widget = widgets.VBox([self.visible, self.opacity])

    def show(self, layer: LayerView) -> None:
        """Show how the layer is drawn."""
        with self.told():
            self.visible.value = layer.visible
            self.opacity.value = layer.opacity


def _opacity(value: float, tooltip: str) -> widgets.FloatSlider:
    return widgets.FloatSlider(
        value,
        min=0,
        max=1,
        step=0.05,
        readout_format=".0%",
        tooltip=tooltip,
        layout=widgets.Layout(width="auto"),
    )


def close(*several: widgets.Widget) -> None:
    """Close widgets with all that is in them: one that is only left stays in both memories."""
    for widget in several:
        close(*getattr(widget, "children", ()))
        for part in ("layout", "style"):
            found = getattr(widget, part, None)
            if isinstance(found, widgets.Widget):
                found.close()
        widget.close()


def heading(text: str) -> widgets.HTML:
    """Return a heading above some controls."""
    return widgets.HTML(f"<strong>{html.escape(text)}</strong>")


def chooser(names: Sequence[str], active: Sequence[str]) -> widgets.SelectMultiple:
    """Return what chooses a few of many channels."""
    options = [(printable(name, 40), name) for name in names]
    return widgets.SelectMultiple(
        options=options,
        value=tuple(active),
        rows=8,
        tooltip=f"channels to show, {MOST_ROWS} at most",
        layout=widgets.Layout(width="auto"),
    )
