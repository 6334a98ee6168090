"""The widgets without a browser: what they carry, and what they accept."""

from __future__ import annotations

import io
from base64 import b64decode
from pathlib import Path
from typing import Any

import nbformat
import pytest
from ipywidgets import VBox
from PIL import Image
from solid_tiles import SolidTiles
from traitlets import TraitError

from ngff_xarray.widgets.bundle import PictureBundle
from ngff_xarray.widgets.canvas import Canvas

VIEW = "application/vnd.jupyter.widget-view+json"


def _png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (200, 100, 50)).save(stream, "png")
    return stream.getvalue()


def _broken() -> bytes:
    raise OSError("chunk \x1b[31m0/0 is truncated")


def test_a_canvas_shows_everything_at_first() -> None:
    canvas = Canvas()
    assert canvas.view is None
    assert canvas.roi is None
    assert canvas.crosshair is None
    assert canvas.selection == []
    assert canvas.tool == "pan"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("view", [1, 2]),
        ("view", ["a", 1, 2]),
        ("home", [0, 1]),
        ("tool", "lasso"),
        ("selection", [7]),  # ids are text
        ("crosshair", [1]),
        ("roi", [[0, 0], [1, 1]]),
        ("height", 3),
    ],
)
def test_what_a_canvas_cannot_be_is_refused(name: str, value: object) -> None:
    with pytest.raises(TraitError):
        setattr(Canvas(), name, value)


def test_code_and_style_come_with_the_widget() -> None:
    state = Canvas().get_state()
    assert "export default" in state["_esm"]
    assert ".ngff-viewer" in state["_css"]


def test_nothing_but_its_traits_is_saved_in_a_notebook() -> None:
    canvas = Canvas()
    before = set(canvas.get_state())
    server = SolidTiles(canvas)
    want = {"view": [512, 512, 1], "size": [300, 200], "ratio": 1, "have": []}
    server.answer(want)
    assert set(canvas.get_state()) == before


@pytest.mark.parametrize("widget", [Canvas(), VBox()], ids=["anywidget", "ipywidgets"])
def test_a_picture_and_a_text_beside_a_widget(widget: Any) -> None:
    bundle = PictureBundle(_png, "image 'cell'").beside(widget._repr_mimebundle_())
    data, _ = bundle
    assert data[VIEW]["model_id"] == widget.model_id
    assert b64decode(data["image/png"]) == _png()
    assert data["text/plain"] == "image 'cell'"


def test_a_picture_that_fails_does_not_keep_the_widget_away() -> None:
    data, _ = PictureBundle(_broken, "image 'cell'").beside(Canvas()._repr_mimebundle_())
    assert VIEW in data
    assert "image/png" not in data
    assert data["text/plain"].startswith("image 'cell' (no picture: OSError: chunk")
    assert data["text/plain"].isprintable()


def test_nbconvert_shows_the_picture() -> None:
    nbconvert = pytest.importorskip("nbconvert", reason="needs nbconvert, of the extra browser")
    data, metadata = PictureBundle(_png, "image 'cell'").beside(Canvas()._repr_mimebundle_())
    cell = nbformat.v4.new_code_cell("tree.ngff.view()")
    cell.outputs = [nbformat.v4.new_output("display_data", data, metadata=metadata)]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    page, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    assert "data:image/png;base64," in page
    text, files = nbconvert.LatexExporter().from_notebook_node(notebook)
    assert any(Path(name).suffix == ".png" for name in files["outputs"])
    assert "includegraphics" in text
