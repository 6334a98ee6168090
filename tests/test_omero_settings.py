"""OMERO's rendering settings, from objects with the methods of its gateway and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from conftest import OMERO
from stores import write_image

from ngff_xarray.errors import NotOmeError, SelectionError, StoreError, UnsupportedError
from ngff_xarray.export.omero import (
    active_channels,
    from_omero,
    omero_pixel_size,
    to_omero,
    with_rendering,
)

# ---- what follows has the methods of omero.gateway, as its docstrings describe them --------------


@dataclass
class ColorHolder:
    rgb: tuple[int, int, int]

    def getHtml(self) -> str:
        return "{:02X}{:02X}{:02X}".format(*self.rgb)


@dataclass
class Family:
    """Values come wrapped from some versions of OMERO."""

    value: str

    def getValue(self) -> str:
        return self.value


@dataclass
class Length:
    value: float
    unit: str
    symbol: str

    def getValue(self) -> float:
        return self.value

    def getUnit(self) -> str:
        return self.unit

    def getSymbol(self) -> str:
        return self.symbol


@dataclass
class ChannelWrapper:
    label: str
    color: tuple[int, int, int]
    start: float = 0.0
    end: float = 255.0
    active: bool = True
    inverted: bool = False
    lut: str | None = None
    family: Any = "linear"
    coefficient: float = 1.0

    def getLabel(self) -> str:
        return self.label

    def getColor(self) -> ColorHolder:
        return ColorHolder(self.color)

    def getLut(self) -> str | None:
        return self.lut

    def getWindowStart(self) -> float:
        return self.start

    def getWindowEnd(self) -> float:
        return self.end

    def getWindowMin(self) -> float:
        return 0.0

    def getWindowMax(self) -> float:
        return 65535.0

    def isActive(self) -> bool:
        return self.active

    def isInverted(self) -> bool:
        return self.inverted

    def getFamily(self) -> Any:
        return self.family

    def getCoefficient(self) -> float:
        return self.coefficient


@dataclass
class ImageWrapper:
    channels: list[ChannelWrapper] | None
    greyscale: bool = False
    z: int = 2
    t: int = 1
    lengths: dict[str, Length] = field(default_factory=dict)

    def getId(self) -> int:
        return 51

    def getName(self) -> str:
        return "cells.tif"

    def getChannels(self, noRE: bool = False) -> list[ChannelWrapper] | None:  # noqa: N803 (OMERO's)
        return self.channels

    def isGreyscaleRenderingModel(self) -> bool:
        return self.greyscale

    def getDefaultZ(self) -> int:
        return self.z

    def getDefaultT(self) -> int:
        return self.t

    def getPixelSizeX(self, units: Any = None) -> Any:
        return self._length("x", units)

    def getPixelSizeY(self, units: Any = None) -> Any:
        return self._length("y", units)

    def getPixelSizeZ(self, units: Any = None) -> Any:
        return self._length("z", units)

    def _length(self, axis: str, units: Any) -> Any:
        found = self.lengths.get(axis)
        return found if units or found is None else found.value

    def set_active_channels(
        self,
        channels: list[int],
        windows: list[list[float | None]] | None = None,
        colors: list[str | None] | None = None,
        invertMaps: list[bool | None] | None = None,  # noqa: N803 (OMERO's)
        set_inactive: bool = False,
    ) -> None:
        assert self.channels is not None
        for number, channel in enumerate(self.channels, 1):
            channel.active = number in channels
            told = number if channel.active else -number
            if told not in channels or not (channel.active or set_inactive):
                continue
            i = channels.index(told)
            if windows is not None and None not in windows[i]:
                channel.start, channel.end = (float(value) for value in windows[i] if value)
            color = colors[i] if colors is not None else None
            if color is not None and color.endswith(".lut"):
                channel.lut = color
            elif color is not None:
                red, green, blue = bytes.fromhex(color)
                channel.color, channel.lut = (red, green, blue), None
            if invertMaps is not None and invertMaps[i] is not None:
                channel.inverted = bool(invertMaps[i])


def wrapper(**changed: Any) -> ImageWrapper:
    channels = [
        ChannelWrapper("nuclei", (0, 0, 255), 120.0, 4000.0, family=Family("polynomial")),
        ChannelWrapper(
            "actin", (255, 0, 0), 10.0, 99.5, active=False, inverted=True, lut="ice.lut"
        ),
    ]
    return ImageWrapper(**{"channels": channels, **changed})


@pytest.fixture
def tree(tmp_path: Path) -> xr.DataTree:
    path = write_image(tmp_path / "a.zarr", axes="tczyx", omero=OMERO, labels={"cells": {}})
    return xr.open_datatree(path)


# ---- from OMERO ----------------------------------------------------------------------------------


def test_what_omero_says_becomes_an_omero_block() -> None:
    window = {"min": 0.0, "max": 65535.0}
    assert from_omero(wrapper()) == {
        "id": 51,
        "name": "cells.tif",
        "channels": [
            {
                "label": "nuclei",
                "color": "0000FF",
                "window": {**window, "start": 120.0, "end": 4000.0},
                "active": True,
                "inverted": False,
                "family": "polynomial",
                "coefficient": 1.0,
            },
            {
                "label": "actin",
                "color": "FF0000",
                "window": {**window, "start": 10.0, "end": 99.5},
                "active": False,
                "inverted": True,
                "family": "linear",
                "coefficient": 1.0,
                "lut": "ice.lut",
            },
        ],
        "rdefs": {"defaultT": 1, "defaultZ": 2, "model": "color"},
    }


def test_an_image_is_drawn_as_omero_draws_it(tree: xr.DataTree, tmp_path: Path) -> None:
    drawn = tree.ngff.with_rendering(wrapper())
    nuclei, actin = drawn.ngff.channels
    assert (nuclei.name, nuclei.color, nuclei.window.end) == ("nuclei", (0, 0, 255), 4000)
    assert (actin.active, actin.inverted) == (False, True)
    for level in drawn.ngff.levels:
        assert list(level["c"].values) == ["nuclei", "actin"]
        assert level["c"].attrs["axis_type"] == "channel"
    assert [c.name for c in tree.ngff.channels] == ["DAPI", "GFP"]  # which stays as it was
    np.testing.assert_array_equal(drawn.ngff.level(1).values, tree.ngff.level(1).values)
    drawn.ngff.to_zarr(tmp_path / "b.ome.zarr", version="0.5")
    again = xr.open_datatree(tmp_path / "b.ome.zarr")
    assert again.attrs["ome"]["omero"] == from_omero(wrapper())
    assert list(again.ngff.labels) == ["cells"]


def test_arrays_and_levels_are_drawn_so_too(tree: xr.DataTree) -> None:
    array = with_rendering(tree.ngff.level(0), wrapper())
    assert [channel.name for channel in array.ngff.channels] == ["nuclei", "actin"]
    dataset = with_rendering(tree["1"].to_dataset(), wrapper())
    assert [channel.color for channel in dataset.ngff.channels] == [(0, 0, 255), (255, 0, 0)]


def test_pixel_sizes_are_as_convert_takes_them() -> None:
    lengths = {
        "x": Length(0.325, "MICROMETER", "µm"),
        "y": Length(1.0, "REFERENCEFRAME", "reference frame"),
    }
    assert omero_pixel_size(wrapper(lengths=lengths)) == {"y": "1.0", "x": "0.325 micrometer"}


def test_what_is_no_image_of_omero_is_refused(tree: xr.DataTree) -> None:
    with pytest.raises(NotOmeError, match="BlitzGateway, found str"):
        from_omero("Image:1")
    with pytest.raises(StoreError, match="cannot draw this image now"):
        from_omero(wrapper(channels=None))
    with pytest.raises(SelectionError, match="1 channels, the image has 2"):
        with_rendering(tree, wrapper(channels=[ChannelWrapper("one", (0, 0, 0))]))
    with pytest.raises(NotOmeError, match="found 3"):
        with_rendering(tree, 3)
    with pytest.raises(NotOmeError, match="'labels'"):
        with_rendering(tree.ngff.labels["cells"], wrapper())


# ---- to OMERO ------------------------------------------------------------------------------------


def test_the_arguments_of_set_active_channels_draw_the_same(tree: xr.DataTree) -> None:
    target = wrapper()
    target.set_active_channels(**active_channels(tree), set_inactive=True)
    assert target.channels is not None
    found = [(c.color, c.start, c.end, c.active, c.inverted) for c in target.channels]
    assert found == [
        ((0, 0, 255), 100.0, 50000.0, True, False),
        ((0, 255, 0), 200.0, 60000.0, True, False),
    ]
    back = wrapper(channels=[ChannelWrapper("a", (9, 9, 9)), ChannelWrapper("b", (9, 9, 9))])
    back.set_active_channels(**active_channels(with_rendering(tree, wrapper())), set_inactive=True)
    want, got = from_omero(wrapper())["channels"], from_omero(back)["channels"]
    for ours, theirs in zip(got, want, strict=True):
        for key in ("window", "active", "inverted"):
            assert ours[key] == theirs[key]
    assert (got[0]["color"], got[1]["lut"]) == ("0000FF", "ice.lut")


def test_windows_that_run_backwards_are_inverted(tmp_path: Path) -> None:
    window = {"min": 0, "max": 9, "start": 9, "end": 2}
    channels = [{**OMERO["channels"][0], "window": window}]
    path = write_image(tmp_path / "a.zarr", axes="yx", omero={"channels": channels})
    tree = xr.open_datatree(path)
    found = active_channels(tree)
    assert (found["windows"], found["invertMaps"]) == ([[2.0, 9.0]], [True])
    with pytest.raises(UnsupportedError, match="is inverted"):
        to_omero(tree)
    assert to_omero(tree, lossy=True)["channels"][1]["start"] == 2.0


def test_the_file_for_omero_render_says_what_the_block_does(
    tree: xr.DataTree, tmp_path: Path
) -> None:
    settings = tree.ngff.to_omero(tmp_path / "a.json")
    first = {"label": "DAPI", "color": "0000FF", "start": 100.0, "end": 50000.0}
    assert settings["channels"][1] == {**first, "min": 0.0, "max": 65535.0, "active": True}
    counted = {key: settings[key] for key in ("version", "z", "t", "greyscale")}
    assert counted == {"version": 2, "z": 3, "t": 2, "greyscale": False}
    assert json.loads((tmp_path / "a.json").read_text())["channels"]["1"] == settings["channels"][1]
    one = to_omero(tree.ngff.sel(c=["GFP"], z=slice("0 µm", "2 µm")))
    assert one["channels"][1]["label"] == "GFP"
    assert "z" not in one  # the plane was cut away


def test_what_the_store_does_not_say_is_left_to_omero(tmp_path: Path) -> None:
    tree = xr.open_datatree(write_image(tmp_path / "a.zarr", axes="cyx"))
    assert to_omero(tree)["channels"] == {1: {"active": True}, 2: {"active": True}}
    assert active_channels(tree)["windows"] == [[None, None], [None, None]]
    assert active_channels(tree)["colors"] == [None, None]


def test_files_of_omero_render_change_what_they_say(tree: xr.DataTree, tmp_path: Path) -> None:
    path = tmp_path / "settings.yml"
    path.write_text(
        "---\nchannels:\n  2:\n    color: 'FF8800'\n    label: Actin\n    start: 5\n    end: 50\n"
        "    active: false\ngreyscale: true\nz: 1\nversion: 2\n"
    )
    drawn = with_rendering(tree, path)
    dapi, actin = drawn.ngff.channels
    assert dapi == tree.ngff.channels[0]
    assert (actin.name, actin.color, actin.active) == ("Actin", (255, 136, 0), False)
    assert (actin.window.start, actin.window.end) == (5, 50)
    rdefs = {"defaultT": 1, "defaultZ": 0, "model": "greyscale"}
    assert drawn.attrs["ome"]["omero"]["rdefs"] == rdefs
    again = with_rendering(tree, to_omero(drawn))
    assert again.ngff.channels == drawn.ngff.channels
    assert again.attrs["ome"]["omero"]["rdefs"] == rdefs


def test_in_version_1_min_and_max_were_the_window(tree: xr.DataTree) -> None:
    old = with_rendering(tree, {"channels": {"1": {"min": 3, "max": 30}}})
    assert old.attrs["ome"]["omero"]["channels"][0]["window"] == {
        "min": 0,
        "max": 65535,
        "start": 3,
        "end": 30,
    }
    both = {"channels": {1: {"min": 3, "max": 30, "start": 4, "end": 5}}}
    with pytest.raises(NotOmeError, match="version None: expected the number 1 or 2"):
        with_rendering(tree, both)
    with pytest.raises(NotOmeError, match="version 3"):
        with_rendering(tree, {**both, "version": 3})


def test_files_that_are_none_say_so(tree: xr.DataTree, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="channel 3: the image has the channels 1 to 2"):
        with_rendering(tree, {"channels": {3: {"label": "x"}}})
    with pytest.raises(StoreError, match="cannot be read"):
        with_rendering(tree, tmp_path / "none.yml")
    (tmp_path / "bad.yml").write_text("{a: [")
    with pytest.raises(NotOmeError, match="is no YAML"):
        with_rendering(tree, tmp_path / "bad.yml")
    with pytest.raises(StoreError, match="cannot be written"):
        to_omero(tree, tmp_path / "no" / "a.json")
