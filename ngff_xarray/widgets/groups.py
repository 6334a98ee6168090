"""Viewers of several images: one at a time, chosen by name, or all of a scene over one another."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import traitlets
import xarray as xr

from ngff_xarray import groups, image, world
from ngff_xarray.errors import NgffError, NotOmeError, SelectionError
from ngff_xarray.overlay import Labels
from ngff_xarray.text import printable
from ngff_xarray.widgets.bundle import PictureBundle
from ngff_xarray.widgets.viewer import Viewer, carried_over, view


class Note(widgets.HTML):
    """A line of text that says what went wrong, or nothing."""

    def __init__(self) -> None:
        super().__init__(layout=widgets.Layout(display="none"))

    def say(self, text: str) -> None:
        """Show a text; none if it is empty."""
        self.value = f"<span role='status'>{html.escape(printable(text, 500))}</span>"
        self.layout.display = "block" if text else "none"


class GroupViewer(widgets.VBox):
    """A viewer of one image of several, which is chosen by name.

    Made by `view_group`. What is drawn, and where, stays when another image is chosen, as far as
    that has the same channels and axes.

    Parameters
    ----------
    images
        By name.
    what
        What they are called: ``"Field"``, ``"Image"``.
    labels, channels, height, position
        As `ngff_xarray.widgets.viewer.view` takes them.
    start
        The image to begin with, if there is one of that name; else the first.
    """

    chosen = traitlets.Unicode(help="the name of the image that is shown")

    def __init__(
        self,
        images: Mapping[str, xr.DataTree],
        *,
        what: str,
        labels: Labels = None,
        channels: Sequence[str] | str | None = None,
        height: int = 480,
        position: Mapping[str, Any] | None = None,
        start: str | None = None,
    ) -> None:
        self.images = dict(images)
        self._height = height
        first = start if start in self.images else next(iter(self.images))
        viewer = view(
            self.images[first],
            labels=labels,
            channels=channels,
            height=height,
            **(position or {}),
        )
        self._choice = widgets.Dropdown(
            options=[(_title(name, node), name) for name, node in self.images.items()],
            value=first,
            description=what,
            tooltip=f"{what.lower()} to show",
            layout=widgets.Layout(width="auto", max_width="100%", min_width="200px"),
            style={"description_width": "initial"},
        )
        self._note = Note()
        super().__init__(layout=widgets.Layout(width="100%"))
        self.viewer: Viewer = viewer
        """The viewer of the image that is chosen."""
        self.chosen = first
        self._show()
        widgets.link((self, "chosen"), (self._choice, "value"))

    @traitlets.validate("chosen")
    def _check_chosen(self, proposal: Any) -> str:
        name: str = proposal["value"]
        if name not in self.images:
            choices = ", ".join(map(printable, list(self.images)[:20]))
            raise SelectionError(f"there is no image {name!r}; choose one of {choices}")
        return name

    @traitlets.observe("chosen")
    def _on_chosen(self, change: Any) -> None:
        before = self.viewer
        if not change["old"]:  # it is being made
            return
        try:
            found = view(self.images[change["new"]], height=self._height)
        except NgffError as error:
            self._note.say(f"{change['new']}: {error}")
            return
        carried_over(before, found)
        self.viewer = found
        self._note.say("")
        self._show()
        before.close()

    def _show(self) -> None:
        head = [self._choice] if len(self.images) > 1 else []
        self.children = [*head, self._note, self.viewer]

    def screenshot(self, path: Any = None, *, ratio: float = 1.0) -> Any:
        """Return what is seen; see `Viewer.screenshot`."""
        return self.viewer.screenshot(path, ratio=ratio)

    def close(self) -> None:
        """End the viewer: its threads and caches."""
        self.viewer.close()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Return the widget, and a picture and text for where no widget can be shown."""
        text = f"viewer of {len(self.images)} images, showing {printable(self.chosen)}"
        beside = PictureBundle(self.viewer.picture, text)
        return beside.beside(super()._repr_mimebundle_(**kwargs))


def _title(name: str, node: xr.DataTree) -> str:
    """Return an image's path, and its name where it says something else."""
    own = image.name(node) or ""
    return printable(f"{name} · {own}" if own and own not in ("/", name) else name, 60)


_WHATS: Mapping[str, tuple[str, Callable[[xr.DataTree], dict[str, xr.DataTree]]]] = {
    "well": ("Field", groups.fields),
    "collection": ("Image", groups.images),
}


def view_group(
    tree: xr.DataTree,
    *,
    labels: Labels = None,
    channels: Sequence[str] | str | None = None,
    height: int = 480,
    **position: Any,
) -> GroupViewer:
    """Return a viewer of the fields of a well or the images of a collection, one at a time.

    Parameters
    ----------
    tree
        The well or collection.
    labels, channels, height, **position
        What to show from the start, as `ngff_xarray.widgets.viewer.view` takes them.

    Raises
    ------
    NotOmeError
        If there is no image in it.
    SelectionError
        If the first image has no such channel, label image or axis.
    """
    what, find = _WHATS[image.kind(tree)]
    images = find(tree)
    if not images:
        raise NotOmeError(f"there is no image in this {image.kind(tree)}: nothing to view")
    return GroupViewer(
        images, what=what, labels=labels, channels=channels, height=height, position=position
    )


def view_scene(
    tree: xr.DataTree,
    *,
    system: str | None = None,
    labels: Labels = None,
    channels: Sequence[str] | str | None = None,
    height: int = 480,
    **position: Any,
) -> Viewer:
    """Return a viewer of all images of a scene over one another, where they lie in one system.

    Parameters
    ----------
    tree
        The scene.
    system
        The name of the coordinate system; by default the scene's first. Images that nothing
        connects with it are left out.
    labels, channels, height, **position
        What to show from the start, as `ngff_xarray.widgets.viewer.view` takes them.

    Raises
    ------
    NotOmeError
        If there is no image in it.
    TransformationError
        If there is no such system.
    UnitError
        If the images have units that do not fit.
    """
    known = world.coordinate_systems(tree)
    name = system if system is not None else next(iter(known), None)
    images = groups.images(tree if name is None else world.to_system(tree, name))
    if not images:
        left = f" that is connected with {name!r}" if name else ""
        raise NotOmeError(f"there is no image{left} in this scene: nothing to view")
    return view(images, labels=labels, channels=channels, height=height, **position)
