"""The reprs: complete, short, escaped, and without failing."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from servers import CountingServer
from stores import edit_attributes, write_image


@pytest.fixture
def tree(scan: Path) -> xr.DataTree:
    return xr.open_datatree(scan)


class _Balanced(HTMLParser):
    """Checks that every tag is closed, and lists the tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _tags(page: str) -> set[str]:
    parser = _Balanced()
    parser.feed(page)
    assert not parser.open
    return parser.tags


def test_the_text_says_axes_levels_channels_and_labels(tree: xr.DataTree, version: str) -> None:
    lines = repr(tree.ngff).splitlines()
    assert lines[0] == f"OME-Zarr {version} image 'scan'"
    assert lines[1] == tree.encoding["source"]
    text = "\n".join(lines)
    assert re.search(r"Axes +t +time +3 +× 1 s", text)
    assert re.search(r"x +space +62 +× 0.5 µm", text)
    assert re.search(r"1 +3 × 2 × 4 × 25 × 31 +uint16 +37.2 kB +chunks 1 × 1 × 4 × 25 × 31", text)
    assert re.search(r"Channels +DAPI +#0000ff +100 to 50000", text)
    assert re.search(r"Labels +cells +3 × 4 × 50 × 62 +uint32 +3 levels", text)
    assert "Issues" not in text


def test_arrays_label_images_shards_and_dask_have_theirs(tmp_path: Path, scan: Path) -> None:
    tree = xr.open_datatree(scan, chunks={})
    assert "dask chunks" in repr(tree["0/image"].ngff)
    assert repr(tree.ngff.labels["cells"].ngff).startswith("OME-Zarr")
    assert "label image 'cells'" in repr(tree.ngff.labels["cells"].ngff)
    path = write_image(tmp_path / "s.ome.zarr", axes="yx", chunks=(16, 16), shards=(64, 64))
    assert "shards 64 × 64 of chunks 16 × 16" in repr(xr.open_datatree(path).ngff)
    assert "Levels" in repr((tree["0/image"] * 2).ngff)


def test_the_page_holds_a_thumbnail_and_swatches(tree: xr.DataTree) -> None:
    page = tree.ngff._repr_html_()
    assert len(page) < 100_000
    assert _tags(page) == {"div", "img", "strong", "span", "br", "table", "tr", "th", "td"}
    encoded = re.search(r"data:image/png;base64,([^']+)'", page)
    assert encoded
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded[1]))))
    np.testing.assert_array_equal(pixels, tree.ngff.rgb(level=-1))
    assert "background:#0000ff" in page
    assert "http" not in page.replace(html.escape(tree.encoding["source"]), "")


def test_pages_of_noise_stay_small(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, (3, 999, 1000)).astype("uint8")
    path = write_image(tmp_path / "a.ome.zarr", axes="cyx", data=data, levels=1)
    assert len(xr.open_datatree(path).ngff._repr_html_()) < 100_000


def test_hostile_text_is_escaped(scan: Path) -> None:
    evil = "<script>alert(1)</script>'\"\x1b[31m\u202e"

    def edit(ome: dict[str, Any]) -> None:
        ome["multiscales"][0]["name"] = evil
        ome["multiscales"][0]["axes"][2]["unit"] = evil
        ome["omero"]["channels"][0].update(label=evil, color=evil)

    edit_attributes(scan, edit)
    tree = xr.open_datatree(scan)
    for obj in (tree, tree["0/image"]):
        page, text = obj.ngff._repr_html_(), repr(obj.ngff)
        assert "script" not in _tags(page)
        assert "&lt;script&gt;" in page
        for shown in (page, text):
            assert "\x1b" not in shown
            assert "\u202e" not in shown


def test_many_channels_levels_and_long_names_stay_short(tmp_path: Path) -> None:
    omero = {"channels": [{"label": f"{i}" + "n" * 1_000_000} for i in range(2)] + [{}] * 20_000}
    path = write_image(
        tmp_path / "a.ome.zarr", axes="cyx", shape=(200, 8, 8), levels=1, omero=omero,
        multiscale={"name": "x" * 1_000_000},
    )  # fmt: skip
    tree = xr.open_datatree(path)
    assert len(repr(tree.ngff)) < 20_000
    assert len(tree.ngff._repr_html_()) < 100_000
    assert "… and 176 more" in repr(tree.ngff)


def test_a_broken_chunk_leaves_the_page_standing(scan: Path) -> None:
    for chunk in (scan / "2").rglob("[0-9]*"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    page = xr.open_datatree(scan).ngff._repr_html_()
    assert "no thumbnail" in page
    assert "Levels" in page


def test_a_declared_giant_opens_and_shows(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.zarr", axes="tzyx", levels=1)
    file = path / "0" / "zarr.json"
    document = json.loads(file.read_text())
    document["shape"] = [10**3, 10**4, 10**4, 10**4]
    file.write_text(json.dumps(document))
    tree = xr.open_datatree(path)
    assert "2 PB" in repr(tree.ngff)
    assert "coarsest level is large" in tree.ngff._repr_html_()


def test_issues_are_counted(scan: Path) -> None:
    edit_attributes(scan, lambda ome: ome["multiscales"][0]["axes"][4].pop("unit"))
    tree = xr.open_datatree(scan)
    assert "1 in the metadata: see .ngff.issues" in repr(tree.ngff)
    assert "1 in the metadata" in tree.ngff._repr_html_()


def test_reprs_over_a_network_ask_little_and_wait_little(
    scan: Path, server: CountingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.latency = 0.2
    tree = xr.open_datatree(f"{server.url}/{scan.name}")
    server.clear()
    repr(tree.ngff)
    repr(tree)
    tree._repr_html_()
    assert server.count == 0
    assert "<img" in tree.ngff._repr_html_()
    assert server.depth == 1  # the chunks of the coarsest level that are drawn
    paths = [request.path for request in server.requests]
    assert len(paths) == len(set(paths)) <= 2

    monkeypatch.setattr("ngff_xarray.formatting._PATIENCE", 0.3)
    server.faults["*"] = ["hang"] * 100
    start = time.monotonic()
    assert "took longer than 0.3 seconds" in tree.ngff._repr_html_()
    assert time.monotonic() - start < 3
    server.faults.clear()
    monkeypatch.undo()
    assert "<img" in tree.ngff._repr_html_()
