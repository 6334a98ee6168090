"""A viewer of plates: all wells in one canvas, and the well that is chosen below it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import ipywidgets as widgets
import traitlets
import xarray as xr

from ngff_xarray import groups, image
from ngff_xarray.errors import NgffError, SelectionError
from ngff_xarray.overlay import Names
from ngff_xarray.text import printable
from ngff_xarray.viewing import World
from ngff_xarray.viewing.plates import plate_world
from ngff_xarray.viewing.scenery import PlateScenery
from ngff_xarray.viewing.wells import PlateWells
from ngff_xarray.well_tables import plainly
from ngff_xarray.widgets import controls
from ngff_xarray.widgets.bundle import PictureBundle
from ngff_xarray.widgets.groups import GroupViewer, Note
from ngff_xarray.widgets.pane import call_soon
from ngff_xarray.widgets.viewer import Viewer, carried_over

_PATIENCE = 1  # seconds that the picture beside the widget may take, for which the widget waits
_NAMED = 3  # wells that a note names


class PlateViewer(widgets.VBox):
    """A viewer of a plate, and of the well that was chosen.

    Made by `view_plate`. Wells are read as they are seen, at the level that the zoom calls for.

    Parameters
    ----------
    tree
        The plate.
    wells, world, scenery
        Its wells, and the world that they lie in.
    height
        CSS pixels of each canvas.
    """

    well = traitlets.Unicode(None, allow_none=True, help="the path of the well that is shown")

    def __init__(
        self,
        tree: xr.DataTree,
        wells: PlateWells,
        world: World,
        scenery: PlateScenery,
        *,
        height: int = 480,
    ) -> None:
        self._tree, self._wells, self._height = tree, wells, height
        self.scenery: PlateScenery = scenery
        shown = list(wells.labels)
        self.plate = Viewer(
            world, height=height, shown=shown, clicked=self._on_clicked, tools=False
        )
        """The viewer of all wells."""
        self.fields: GroupViewer | None = None
        """The viewer of the well that was chosen."""
        self._known = {printable(well.path, 40): well.path for well in wells.at.values()}
        self._choice = widgets.Combobox(
            options=tuple(self._known),
            placeholder="click a well, or type its name",
            description="Well",
            tooltip="well to show: type its name",
            continuous_update=False,
            layout=widgets.Layout(width="260px"),
            style={"description_width": "initial"},
        )
        self._shut = widgets.Button(
            description="Close well",
            tooltip="show the plate alone",
            layout=widgets.Layout(width="100px", display="none"),
        )
        self._note, self._problems = Note(), Note()
        self._below = widgets.VBox(layout=widgets.Layout(width="100%"))
        self._call_soon = call_soon()
        super().__init__(layout=widgets.Layout(width="100%"))
        self.children = [
            widgets.HBox([self._choice, self._shut], layout=widgets.Layout(flex_flow="row wrap")),
            self._note,
            self.plate,
            self._problems,
            self._below,
        ]
        self._choice.observe(self._on_choice, "value")
        self._shut.on_click(lambda _: setattr(self, "well", None))
        wells.told = partial(self._soon, self._on_told)
        self._revision = wells.revision

    # ---- which well ------------------------------------------------------------------------

    def _on_clicked(self, x: float, y: float) -> None:
        path = self.scenery.well(x, y)
        if path is None:
            self._note.say(self.scenery.at(x, y)[0])
        else:
            self.well = path

    def _on_choice(self, change: Any) -> None:
        text = change["new"].strip()
        path = self._known.get(text) or _spelled(text, self._known.values())
        if path is not None:
            self.well = path
        elif text:
            self._note.say(f"there is no well {text!r}")

    @traitlets.validate("well")
    def _check_well(self, proposal: Any) -> str | None:
        path: str | None = proposal["value"]
        if path is None or path in self._known.values():
            return path
        found = _spelled(path, self._known.values())
        if found is None:
            choices = ", ".join(list(self._known)[:20])
            raise SelectionError(f"there is no well {path!r}; the plate lists {choices}, …")
        return found

    @traitlets.observe("well")
    def _on_well(self, change: Any) -> None:
        path = change["new"]
        self._note.say("")
        self._choice.value = "" if path is None else printable(path, 40)
        self._shut.layout.display = "none" if path is None else ""
        self.plate.mark(None if path is None else self.scenery.middle(path))
        before, self.fields = self.fields, None
        if path is not None:
            self.fields = self._opened(path, before.chosen if before else None)
        if self.fields is not None:
            carried_over(before.viewer if before else self.plate, self.fields.viewer, windows=True)
        heading = [] if path is None else [controls.heading(f"Well {printable(path, 40)}")]
        self._below.children = [*heading, *([self.fields] if self.fields else [])]
        if before is not None:
            before.close()

    def _opened(self, path: str, field: str | None) -> GroupViewer | None:
        try:
            fields = groups.fields(groups.well(self._tree, path))
            if not fields:
                raise SelectionError("it has no field that can be read")
            number = self._wells.number
            own = list(fields)[number] if number < len(fields) else None
            return GroupViewer(fields, what="Field", height=self._height, start=field or own)
        except NgffError as error:
            self._note.say(f"well {path} cannot be shown: {error}")
            return None

    # ---- what cannot be read ---------------------------------------------------------------

    def _on_told(self) -> None:
        self._tell_problems()
        if self._revision != self._wells.revision:
            self._revision = self._wells.revision
            self.plate.refresh()

    def _tell_problems(self) -> None:
        problems = dict(self._wells.problems)
        named = [f"{path}: {text}" for path, text in list(problems.items())[:_NAMED]]
        more = "" if len(problems) <= _NAMED else f"; and {len(problems) - _NAMED} more"
        count = f"{len(problems)} well{'s' if len(problems) > 1 else ''} cannot be shown"
        self._problems.say(f"{count} ({'; '.join(named)}{more})" if problems else "")

    def _soon(self, act: Any) -> None:
        if self._call_soon is None:
            act()
            return
        try:
            self._call_soon(act)
        except RuntimeError:  # the notebook was closed meanwhile
            return

    # ---- for the kernel --------------------------------------------------------------------

    def screenshot(self, path: Any = None, *, ratio: float = 1.0) -> Any:
        """Return what is seen of the plate; see `Viewer.screenshot`."""
        return self.plate.screenshot(path, ratio=ratio)

    def close(self) -> None:
        """End the viewers: their threads and caches."""
        if self.fields is not None:
            self.fields.close()
        self.plate.close()
        self._wells.close()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Return the widget, and a picture and text for where no widget can be shown."""
        rows, columns = len(self._wells.rows), len(self._wells.columns)
        text = f"viewer of a plate of {rows} x {columns} places, {len(self._wells.at)} wells"
        beside = PictureBundle(self._picture, text)
        return beside.beside(super()._repr_mimebundle_(**kwargs))

    def _picture(self) -> bytes:
        """Return what is seen as a small PNG, if the wells are read soon."""
        done: SimpleQueue[bytes | Exception] = SimpleQueue()

        def draw() -> None:
            try:
                done.put(self.plate.picture())
            except Exception as error:  # the store's, whichever it is
                done.put(error)

        threading.Thread(target=draw, daemon=True, name="ngff-picture").start()
        try:
            found = done.get(timeout=_PATIENCE)
        except Empty:
            raise TimeoutError("the wells are still being read") from None
        if isinstance(found, Exception):
            raise found
        return found


def _spelled(text: str, paths: Any) -> str | None:
    """Return the well that a person means: ``"b3"`` or ``"B03"`` for ``"B/3"``."""

    def plain(name: str) -> str:
        return plainly(name.replace("/", "")).casefold()

    found = [path for path in paths if plain(path) == plain(text)]
    return found[0] if len(found) == 1 else None


def view_plate(
    tree: xr.DataTree,
    *,
    field: int = 0,
    labels: Names = None,
    channels: Sequence[str] | str | None = None,
    height: int = 480,
    **position: Any,
) -> PlateViewer:
    """Return a viewer of a plate: every well at the place of its row and column, in one canvas.

    Opening reads the plate and one field, whose channels, axes and levels are taken to be those of
    all. Wells are read as they come into view; those that cannot be read are marked, and tried
    again when they are seen later.

    Parameters
    ----------
    tree
        The plate.
    field
        Which field of every well to show.
    labels
        Label images of the fields to show over them: a name, a list of names, or True for all that
        the first well has.
    channels
        Names of the channels to show; by default those that the store calls active.
    height
        CSS pixels of each canvas.
    **position
        Where to begin on the axes that are not drawn: ``z="3 µm"``, ``t=0``.

    Raises
    ------
    SelectionError
        If there is no well to show, or no such channel, label image or axis.
    NgffError
        If no well can be read.
    """
    wells = PlateWells(tree, field, labels)
    try:
        world, scenery = plate_world(wells, printable(image.name(tree) or "plate", 60))
    except NgffError:
        wells.close()
        raise
    found = PlateViewer(tree, wells, world, scenery, height=height)
    try:
        if channels is not None:
            found.plate.channels = [channels] if isinstance(channels, str) else list(channels)
        if position:
            found.plate.position = position
    except NgffError:
        found.close()
        raise
    return found
