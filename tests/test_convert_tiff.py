"""TIFF and its family: what tifffile wrote is read as it was meant, and converted."""

from __future__ import annotations

import io
import pickle
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr

import ngff_xarray
from ngff_xarray import NgffError, convert, open_image
from ngff_xarray.converting import tiff_pages
from ngff_xarray.errors import (
    IncompleteError,
    NotOmeError,
    SelectionError,
    StoreError,
    StoreNotFoundError,
)

GREY = {"photometric": "minisblack"}
RNG = np.random.default_rng(0)
OME = {
    "axes": "TCZYX",
    "Name": "embryo",
    "PhysicalSizeX": 0.2,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 250.0,
    "PhysicalSizeYUnit": "nm",
    "PhysicalSizeZ": 1.5,
    "TimeIncrement": 2.5,
    "TimeIncrementUnit": "min",
    "Channel": {"Name": ["DAPI", "GFP", "RFP"], "Color": [65535, 16711935, -16776961]},
}


def pixels(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return RNG.integers(0, 200, shape).astype(dtype)


@pytest.fixture
def ome(tmp_path: Path) -> Path:
    path = tmp_path / "embryo.ome.tif"
    tifffile.imwrite(path, pixels(2, 3, 4, 40, 50), metadata=OME)
    return path


def xml(path: Path) -> str:
    with tifffile.TiffFile(path) as tif:
        return tif.ome_metadata or ""


def level(path: Path, number: int = 0, **options: Any) -> xr.DataArray:
    found: xr.DataArray = open_image(path, **options).ngff.level(number)
    return found


def test_an_ome_tiff_has_its_axes_sizes_channels_and_text(ome: Path) -> None:
    tree = open_image(ome)
    finest = tree.ngff.level(0)
    assert dict(finest.sizes) == {"t": 2, "c": 3, "z": 4, "y": 40, "x": 50}
    np.testing.assert_array_equal(finest.values, tifffile.imread(ome))
    sizes = {axis: str(size) for axis, size in tree.ngff.pixel_size.items()}
    assert sizes == {
        "t": "2.5 minute",
        "z": "1.5 micrometer",
        "y": "250.0 nanometer",
        "x": "0.2 micrometer",
    }
    assert [(each.name, each.color) for each in tree.ngff.channels] == [
        ("DAPI", (0, 0, 255)),
        ("GFP", (0, 255, 0)),
        ("RFP", (255, 0, 0)),
    ]
    assert tree.ngff.name == "embryo"
    assert tree.attrs["original_metadata"]["text"] == xml(ome)
    assert tree.ngff.issues == ()


def test_what_is_converted_reads_the_same_and_says_what_was_kept(ome: Path, tmp_path: Path) -> None:
    said = convert(ome, tmp_path / "a.ome.zarr", chunks={"y": 16, "x": 16}, levels=2)
    tree = xr.open_datatree(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(tree.ngff.level(0).values, tifffile.imread(ome))
    assert tree.ngff.level(0).encoding["chunks"][-2:] == (16, 16)
    assert len(tree.ngff.levels) == 2
    xr.testing.assert_equal(tree["0"].coords.to_dataset(), open_image(ome)["0"].coords.to_dataset())
    windows = [each.window for each in tree.ngff.channels]
    assert all(window is not None and window.end <= 200 for window in windows)
    assert tree.attrs["original_metadata"]["format"] == "OME-XML"
    assert (said.reader, said.format, said.images) == ("tiff", "OME-TIFF", ("",))
    assert said.kept == (
        "pixels: t 2 x c 3 x z 4 x y 40 x x 50, uint16",
        "pixel sizes: t 2.5 min, z 1.5 µm, y 250 nm, x 0.2 µm",
        "channels: DAPI, GFP, RFP",
        "original metadata: OME-XML",
    )
    assert said.dropped == () and said.issues == ()
    assert "kept: channels" in str(said)
    assert not ngff_xarray.validate(tmp_path / "a.ome.zarr").issues


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_versions(ome: Path, tmp_path: Path, version: str) -> None:
    convert(ome, tmp_path / "a.ome.zarr", version=version)
    tree = xr.open_datatree(tmp_path / "a.ome.zarr")
    assert tree.ngff.version == version
    np.testing.assert_array_equal(tree.ngff.level(0).values, tifffile.imread(ome))


FORMS: dict[str, tuple[np.ndarray, dict[str, Any], tuple[str, ...]]] = {
    "strips": (pixels(3, 40, 50), {"rowsperstrip": 7, "metadata": {"axes": "ZYX"}}, ("z",)),
    "deflate": (
        pixels(3, 40, 50),
        {"rowsperstrip": 7, "compression": "zlib", "metadata": {"axes": "ZYX"}},
        ("z",),
    ),
    "tiles": (pixels(3, 40, 50), {"tile": (16, 32), "metadata": {"axes": "ZYX"}}, ("z",)),
    "tiles, lzw, predictor": (
        pixels(3, 40, 50),
        {"tile": (16, 32), "compression": "lzw", "predictor": 2, "metadata": {"axes": "TYX"}},
        ("t",),
    ),
    "big endian": (
        pixels(2, 40, 50, dtype="float32"),
        {"byteorder": ">", "metadata": {"axes": "CYX"}},
        ("c",),
    ),
    "big endian, zstd": (
        pixels(2, 40, 50, dtype="float32"),
        {"byteorder": ">", "compression": "zstd", "metadata": {"axes": "CYX"}},
        ("c",),
    ),
    "BigTIFF": (pixels(40, 50), {"bigtiff": True, "metadata": {"axes": "YX"}}, ()),
    "bits": (pixels(40, 50).astype(bool), {"metadata": {"axes": "YX"}}, ()),
    "int8": (pixels(2, 40, 50).astype("int8"), {"metadata": {"axes": "TYX"}}, ("t",)),
    "not packed up": (
        pixels(4, 40, 50),
        {"contiguous": False, "metadata": {"axes": "ZYX"}},
        ("z",),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_storage(form: str, tmp_path: Path) -> None:
    written, options, outer = FORMS[form]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, written, photometric="minisblack", **options)
    found = level(path)
    assert found.dims == (*outer, "y", "x")
    assert found.dtype == written.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found.values, tifffile.imread(path))
    np.testing.assert_array_equal(found[..., 33:2:-3, 7::5].values, written[..., 33:2:-3, 7::5])
    np.testing.assert_array_equal(found[..., [3, 30, 4], 9].values, written[..., [3, 30, 4], 9])
    assert found[..., 5:5, :].shape[-2:] == (0, 50)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.values, written)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib", "jpeg"])
def test_colours_are_channels(planar: str, compression: str | None, tmp_path: Path) -> None:
    written = pixels(48, 64, 3, dtype="uint8")
    if planar == "separate":
        written = np.moveaxis(written, -1, 0)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        written,
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        tile=(32, 32),
    )
    tree = open_image(path)
    read = tifffile.imread(path)
    expected = read if planar == "separate" else np.moveaxis(read, -1, 0)
    np.testing.assert_array_equal(tree.ngff.level(0).values, expected)
    assert tree.ngff.level(0).c.values.tolist() == ["red", "green", "blue"]
    assert tree.ngff.channels[0].color == (255, 0, 0)


def test_bytes_in_colours_are_shown_as_they_are_also_after_a_way_out_and_in(tmp_path: Path) -> None:
    picture = RNG.integers(90, 99, (60, 70, 3), dtype="uint8")
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb")
    convert(tmp_path / "a.tif", tmp_path / "a.ome.zarr")
    xr.open_datatree(tmp_path / "a.ome.zarr").ngff.to_ome_tiff(tmp_path / "b.ome.tif")
    convert(tmp_path / "b.ome.tif", tmp_path / "b.ome.zarr")
    for tree in (
        open_image(tmp_path / "a.tif"),
        xr.open_datatree(tmp_path / "a.ome.zarr"),
        open_image(tmp_path / "b.ome.tif"),
        xr.open_datatree(tmp_path / "b.ome.zarr"),
    ):
        windows = [(each.window.start, each.window.end) for each in tree.ngff.channels]
        assert windows == [(0, 255)] * 3
        np.testing.assert_array_equal(tree.ngff.rgb(), picture)


def test_stacks_in_colours_and_of_several_channels(tmp_path: Path) -> None:
    written = pixels(2, 4, 40, 50, 3, dtype="uint8")
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, written, photometric="rgb", metadata={"axes": "TZYXS"})
    np.testing.assert_array_equal(level(path).values, np.moveaxis(written, -1, 1))
    assert level(path).dims == ("t", "c", "z", "y", "x")


def test_a_pyramid_keeps_its_levels(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    finest = pixels(2, 128, 96)
    with tifffile.TiffWriter(path) as writer:
        how: dict[str, Any] = {"tile": (32, 32), "photometric": "minisblack"}
        meta = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        writer.write(finest, subifds=2, metadata=meta, **how)
        writer.write(finest[:, ::2, ::2], subfiletype=1, **how)
        writer.write(finest[:, 3::4, 3::4], subfiletype=1, **how)
    said = convert(path, tmp_path / "a.ome.zarr")
    assert "levels: 3" in said.kept
    for tree in (open_image(path), xr.open_datatree(tmp_path / "a.ome.zarr")):
        assert [each.shape for each in tree.ngff.levels] == [(2, 128, 96), (2, 64, 48), (2, 32, 24)]
        np.testing.assert_array_equal(tree.ngff.level(2).values, finest[:, 3::4, 3::4])
        assert tree.ngff.level(1).x.values[:2].tolist() == [0.25, 1.25]
    convert(path, tmp_path / "a.ome.zarr", scale_factors=[4], mode="w")
    tree = xr.open_datatree(tmp_path / "a.ome.zarr")
    assert [each.shape for each in tree.ngff.levels] == [(2, 128, 96), (2, 32, 24)]


def write_series(path: Path, *arrays: np.ndarray) -> None:
    with tifffile.TiffWriter(path, ome=True) as writer:
        for number, each in enumerate(arrays):
            meta = {"axes": "CYX"[-each.ndim :], "Name": f"s{number}", "PhysicalSizeX": 1 + number}
            writer.write(each, photometric="minisblack", metadata=meta)


def test_several_series_are_a_collection(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    arrays = [pixels(2, 20, 30), pixels(40, 50), pixels(30, 20)]
    write_series(path, *arrays)
    said = convert(path, tmp_path / "a.ome.zarr")
    assert said.images == ("0", "1", "2") and "collection of 3 images" in said.kept
    for tree in (open_image(path), xr.open_datatree(tmp_path / "a.ome.zarr")):
        assert tree.ngff.kind == "collection"
        for written, each in zip(arrays, tree.ngff.images.values(), strict=True):
            np.testing.assert_array_equal(each.ngff.level(0).values, written)
    text = xml(path)
    assert xr.open_datatree(tmp_path / "a.ome.zarr").ngff.ome_xml == text
    one = open_image(path, series="s1")
    np.testing.assert_array_equal(one.ngff.level(0).values, arrays[1])
    np.testing.assert_array_equal(level(path, series=2).values, arrays[2])
    with pytest.raises(SelectionError, match="no series 's7'; there are 0 's0', 1 's1'"):
        open_image(path, series="s7")


def with_plate(path: Path, plate: str) -> None:
    text = xml(path)
    tifffile.tiffcomment(path, text.replace("<Image ", f"{plate}<Image ", 1).encode())


def test_a_plate_is_a_plate(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    arrays = [pixels(20, 30) for _ in range(3)]
    write_series(path, *arrays)
    sample = '<WellSample ID="WellSample:{0}" Index="{0}"><ImageRef ID="Image:{0}"/></WellSample>'
    wells = (
        f'<Well ID="Well:0" Row="1" Column="2">{sample.format(0)}{sample.format(1)}</Well>'
        f'<Well ID="Well:1" Row="3" Column="0">{sample.format(2)}</Well>'
    )
    with_plate(
        path,
        '<Plate ID="Plate:0" Name="screen" Rows="8" Columns="12" RowNamingConvention="letter" '
        f'ColumnNamingConvention="number">{wells}</Plate>',
    )
    said = convert(path, tmp_path / "a.ome.zarr")
    assert "plate of 3 images" in said.kept
    for tree in (open_image(path), xr.open_datatree(tmp_path / "a.ome.zarr", wells="all")):
        plate = tree.ngff
        assert (plate.kind, list(plate.wells.index)) == ("plate", ["B/3", "D/1"])
        found = plate.well("B/3").ngff.fields["1"].ngff.level(0)
        np.testing.assert_array_equal(found.values, arrays[1])
        assert len(tree.attrs["ome"]["plate"]["columns"]) == 12
    assert "Plate:0" in xr.open_datatree(tmp_path / "a.ome.zarr").ngff.ome_xml
    # the tree itself can be written, too
    open_image(path, pixel_size={"y": "1 µm"}).ngff.to_zarr(tmp_path / "b.ome.zarr")
    assert ngff_xarray.validate(tmp_path / "b.ome.zarr").valid
    again = xr.open_datatree(tmp_path / "b.ome.zarr").ngff.well("D/1").ngff.fields["0"]
    np.testing.assert_array_equal(again.ngff.level(0).values, arrays[2])


def write_files(folder: Path, arrays: np.ndarray) -> list[Path]:
    """Write a time point a file, each with the XML of all."""
    ids = [f"urn:uuid:{uuid.uuid4()}" for _ in arrays]
    paths = [folder / f"t{i}.ome.tif" for i in range(len(arrays))]
    t, c, y, x = arrays.shape
    data = "".join(
        f'<TiffData FirstT="{i}" FirstC="{j}" FirstZ="0" IFD="{j}" PlaneCount="1">'
        f'<UUID FileName="{paths[i].name}">{ids[i]}</UUID></TiffData>'
        for i in range(t)
        for j in range(c)
    )
    for own, path, each in zip(ids, paths, arrays, strict=True):
        text = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{own}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            f'Type="uint16" SizeX="{x}" SizeY="{y}" SizeZ="1" SizeC="{c}" SizeT="{t}">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
            f'<Channel ID="Channel:0:1" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            path, each, photometric="minisblack", compression="zlib", description=text,
            metadata=None,
        )  # fmt: skip
    return paths


def test_an_image_of_several_files(tmp_path: Path) -> None:
    arrays = pixels(3, 2, 40, 50)
    paths = write_files(tmp_path, arrays)
    found = level(paths[1])
    np.testing.assert_array_equal(found.values, arrays)
    np.testing.assert_array_equal(found.values, tifffile.imread(paths[1]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found))[2].values, arrays[2])
    paths[2].unlink()
    with pytest.raises(StoreError, match="2 of 6 planes are not there"):
        open_image(paths[0])
    filled = open_image(paths[0], missing="fill")
    np.testing.assert_array_equal(filled.ngff.level(0)[:2].values, arrays[:2])
    assert not filled.ngff.level(0)[2].values.any()
    assert any("t2.ome.tif" in issue.message for issue in filled.ngff.issues)


BINARY_ONLY = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
    'UUID="{own}"><BinaryOnly MetadataFile="{name}" UUID="urn:uuid:2"/></OME>'
)


def write_companion(folder: Path, arrays: np.ndarray) -> Path:
    """Write a time point a file, and the XML of all beside them."""
    paths = write_files(folder, arrays)
    path = folder / "all.companion.ome"
    text = xml(paths[0])
    own = [re.findall(r'UUID="([^"]*)"', xml(each))[0] for each in paths]
    for each, array, uid in zip(paths, arrays, own, strict=True):
        said = BINARY_ONLY.format(own=uid, name=path.name)
        tifffile.imwrite(each, array, **GREY, description=said, metadata=None)
    text = text.replace(f'UUID="{own[0]}">', 'UUID="urn:uuid:2">', 1)
    sizes = 'PhysicalSizeX="0.5" PhysicalSizeY="0.5" SizeX'
    path.write_text(text.replace("SizeX", sizes, 1))
    return path


@pytest.mark.parametrize("opened", ["all.companion.ome", "t0.ome.tif", "t2.ome.tif"])
def test_companion_files_are_followed(opened: str, tmp_path: Path) -> None:
    arrays = pixels(3, 2, 40, 50)
    (tmp_path / "in").mkdir()
    path = write_companion(tmp_path / "in", arrays)
    tree = open_image(tmp_path / "in" / opened)
    found = tree.ngff.level(0)
    np.testing.assert_array_equal(found.values, arrays)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found))[2].values, arrays[2])
    assert (found.dims, found.x.attrs["pixel_size"]) == (("t", "c", "y", "x"), 0.5)
    assert tree.attrs["original_metadata"]["text"] == path.read_text()
    said = convert(tmp_path / "in" / opened, tmp_path / "a.ome.zarr")
    assert said.format == "OME-TIFF"
    np.testing.assert_array_equal(xr.open_datatree(tmp_path / "a.ome.zarr").ngff.level(0), arrays)
    assert len(open_image(tmp_path / "in").ngff.images) == 1, "together they are one image"
    path.write_text(path.read_text().replace("t1.ome.tif", "t7.ome.tif"))
    with pytest.raises(StoreError, match="2 of 6 planes are not there"):
        open_image(tmp_path / "in" / opened)


def test_companion_files_that_are_no_use(tmp_path: Path) -> None:
    path = write_companion(tmp_path, pixels(2, 2, 40, 50))
    for name in ("t0", "t1"):
        (tmp_path / f"{name}.ome.tif").rename(tmp_path / f"{name}.tif")
    with pytest.raises(StoreError, match=r"none of the 2 TIFF files is beside it .*'t0.ome.tif'"):
        open_image(path)
    path.write_text("<OME><Image/></OME>")
    with pytest.raises(NotOmeError, match="names no TIFF file that its pixels are in"):
        open_image(path)
    path.write_text(f"<OME>{'<a>' * 10_000}</OME>")
    with pytest.raises(NgffError, match="nested deeper"):
        open_image(path)


def test_files_outside_of_the_folder_are_no_part_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").mkdir()
    paths = write_files(tmp_path / "in", pixels(2, 2, 40, 50))
    text = xml(paths[0]).replace('"t1.ome.tif"', '"../secret/t1.ome.tif"')
    paths[1].rename(tmp_path / "secret" / "t1.ome.tif")
    tifffile.tiffcomment(paths[0], text.encode())
    with pytest.raises(StoreError, match="outside of its folder"):
        open_image(paths[0])


def test_metadata_that_are_in_another_file_are_an_issue(tmp_path: Path) -> None:
    path = tmp_path / "t0.ome.tif"
    text = BINARY_ONLY.format(own="urn:uuid:1", name="all.companion.ome")
    written = pixels(2, 40, 50)
    tifffile.imwrite(path, written, **GREY, description=text, metadata=None)
    tree = open_image(path)
    np.testing.assert_array_equal(tree.ngff.level(0).values, written)
    assert "'all.companion.ome', that is not beside it" in tree.ngff.issues[0].message
    (tmp_path.parent / "all.companion.ome").write_text("<OME/>")
    tifffile.tiffcomment(path, text.replace("all.comp", "../all.comp").encode())
    assert "'../all.companion.ome'" in open_image(path).ngff.issues[0].message


def test_hyperstacks_of_imagej(tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    written = pixels(2, 3, 2, 40, 50)
    ramp = np.arange(256, dtype="uint8")
    dark = np.zeros_like(ramp)
    tifffile.imwrite(
        path,
        written,
        imagej=True,
        resolution=(1 / 0.65, 1 / 0.65),
        metadata={
            "axes": "TZCYX",
            "spacing": 2.0,
            "unit": "um",
            "finterval": 0.5,
            "LUTs": [np.stack([dark, ramp, dark]), np.stack([ramp, dark, ramp])],
            "Ranges": (10.0, 100.0, 5.0, 150.0),
            "Info": "taken on a rainy day",
        },
    )
    tree = open_image(path)
    np.testing.assert_array_equal(tree.ngff.level(0).values, np.swapaxes(written, 1, 2))
    sizes = {axis: str(size) for axis, size in tree.ngff.pixel_size.items()}
    assert sizes == {
        "t": "0.5 second",
        "z": "2.0 micrometer",
        "y": "0.65 micrometer",
        "x": "0.65 micrometer",
    }
    first, second = tree.ngff.channels
    assert (first.color, second.color) == ((0, 255, 0), (255, 0, 255))
    assert (first.window.start, first.window.end, second.window.end) == (10.0, 100.0, 150.0)
    assert "rainy" in tree.attrs["original_metadata"]["text"]
    said = convert(path, tmp_path / "cells.ome.zarr")
    assert said.format == "ImageJ TIFF"
    again = xr.open_datatree(tmp_path / "cells.ome.zarr")
    np.testing.assert_array_equal(again.ngff.level(0).values, np.swapaxes(written, 1, 2))
    assert again.ngff.channels == tree.ngff.channels


def test_regions_of_imagej_are_named_as_dropped(tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    overlay = b"Iout" + bytes(60)
    tifffile.imwrite(path, pixels(40, 50), imagej=True, metadata={"Overlays": [overlay, overlay]})
    said = convert(path, tmp_path / "a.ome.zarr")
    assert said.dropped == ("2 regions of interest (ROI)",)


def test_regions_and_annotations_of_ome_are_named_as_dropped(ome: Path, tmp_path: Path) -> None:
    text = xml(ome)
    more = (
        '<StructuredAnnotations><MapAnnotation ID="Annotation:0"/></StructuredAnnotations>'
        '<ROI ID="ROI:0"/><ROI ID="ROI:1"/></OME>'
    )
    tifffile.tiffcomment(ome, text.replace("</OME>", more).encode())
    said = convert(ome, tmp_path / "a.ome.zarr")
    assert [line.split(" (")[0] for line in said.dropped] == [
        "2 regions of interest",
        "1 annotations",
    ]


SHAPES = """
<ROI ID="ROI:0"><Union>
<Rectangle ID="Shape:0" X="0" Y="2" Width="10" Height="4" Text="cell &lt;1&gt;" TheZ="1"/>
<Ellipse ID="Shape:1" X="20" Y="10" RadiusX="5" RadiusY="2"/></Union></ROI>
<ROI ID="ROI:1"><Union>
<Polygon ID="Shape:2" Points="1,1 5.5,1 5,4"/><Point ID="Shape:3" X="3" Y="4"/>
<Polyline ID="Shape:4" Points="0,0 1,1 2,0"/><Label ID="Shape:5" X="7" Y="8" Text="here"/>
<Mask ID="Shape:6" X="0" Y="0" Width="2" Height="2"/>
<Line ID="Shape:7" X1="0" Y1="0" X2="1" Y2="1"><Transform A00="1" A01="1" A02="0"/></Line>
<Point ID="Shape:8" X="nan" Y="4"/></Union></ROI>
"""


def test_regions_of_ome_are_geojson_in_the_report(tmp_path: Path) -> None:
    from ngff_xarray.viewing import geojson

    path = tmp_path / "a.ome.tif"
    said = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(path, pixels(40, 50), metadata=said)
    text = xml(path).replace("</Pixels>", f"{plane(0, 0, 100, 7, 0)}</Pixels>", 1)
    refs = '<ROIRef ID="ROI:0"/><ROIRef ID="ROI:1"/></Image>'
    text = text.replace("</Image>", refs, 1).replace("</OME>", f"{SHAPES}</OME>")
    tifffile.tiffcomment(path, text.encode())
    report = convert(path, tmp_path / "a.ome.zarr")
    assert report.dropped[0].startswith("3 regions of interest (ROI: masks, shapes that are turned")
    assert "regions of interest: 6, as GeoJSON in .rois of this report" in report.kept
    (document,) = report.rois.values()
    found = [(each["geometry"]["type"], each["properties"]) for each in document["features"]]
    assert [kind for kind, _ in found] == [
        "Polygon", "Polygon", "Polygon", "Point", "LineString", "Point",
    ]  # fmt: skip
    assert found[0][1] == {
        "objectType": "annotation",
        "axes": ["x", "y"],
        "unit": "micrometer",
        "name": "cell <1>",
        "TheZ": 1,
    }
    ((rectangle, _),) = geojson.polygons(document["features"][0])  # as the viewer reads it
    # the corner of the first pixel is half a pixel before its centre, which is at 100, 7
    assert rectangle == ((99.75, 7.375), (104.75, 7.375), (104.75, 8.375), (99.75, 8.375))
    ((ellipse, _),) = geojson.polygons(document["features"][1])
    xs, ys = np.transpose(ellipse)
    np.testing.assert_allclose(
        [xs.min(), xs.max(), ys.min(), ys.max()], [107.25, 112.25, 8.875, 9.875]
    )
    assert document["features"][3]["geometry"]["coordinates"] == [101.25, 7.875]


def plane(t: int, z: int, x: float, y: float, depth: float, unit: str = "µm") -> str:
    said = {"X": x, "Y": y, "Z": depth}
    places = " ".join(f'Position{k}="{v}" Position{k}Unit="{unit}"' for k, v in said.items())
    return f'<Plane TheT="{t}" TheC="0" TheZ="{z}" {places}/>'


def with_planes(path: Path, planes: list[str]) -> None:
    text = re.sub("<Plane [^>]*>", "", xml(path))
    tifffile.tiffcomment(path, text.replace("</Pixels>", f"{''.join(planes)}</Pixels>").encode())


def test_positions_of_the_stage_are_where_an_image_begins(ome: Path, tmp_path: Path) -> None:
    # pixels of 0.2 µm, 250 nm and 1.5 µm, two time points of four planes
    with_planes(ome, [plane(t, z, 1000.25, -70.5, 30 + 1.5 * z) for t in (0, 1) for z in range(4)])
    said = convert(ome, tmp_path / "a.ome.zarr")
    assert "positions: where the first pixel is along z, y, x" in said.kept
    assert not any("stage" in line for line in said.dropped)
    for tree in (open_image(ome), xr.open_datatree(tmp_path / "a.ome.zarr")):
        finest = tree.ngff.level(0)
        assert float(finest.x[0]) == 1000.25 and float(finest.x[2]) == pytest.approx(1000.65)
        assert finest.y.attrs["units"] == "nanometer" and float(finest.y[0]) == -70_500
        np.testing.assert_allclose(finest.z, [30, 31.5, 33, 34.5])


@pytest.mark.parametrize(
    ("planes", "reason"),
    [
        ([plane(0, 0, 10, 5, 0), plane(1, 0, 11, 5, 0)], "x differs from plane to plane"),
        ([plane(0, z, 10, 5, -1.5 * z) for z in range(4)], "z differs from plane to plane"),
        ([plane(0, 0, 10, 5, 1, "reference frame")], "x in no unit of length, y in no unit"),
        ([plane(0, 0, 10, 5, 1, "s")], "x in no unit of length"),
    ],
)
def test_positions_that_are_no_place_are_named_as_dropped(
    planes: list[str], reason: str, ome: Path, tmp_path: Path
) -> None:
    with_planes(ome, planes)
    (line,) = convert(ome, tmp_path / "a.ome.zarr").dropped
    assert line.startswith("positions of the stage (") and reason in line
    found = xr.open_datatree(tmp_path / "a.ome.zarr").ngff.level(0)
    assert 0 in (float(found.x[0]), float(found.z[0]))


def test_fields_of_a_plate_are_where_their_wells_say(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for i in range(2):
            metadata = {"axes": "YX", "Name": f"f{i}", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
            writer.write(pixels(20, 30), photometric="minisblack", metadata=metadata)
    sample = (
        '<WellSample ID="WellSample:{0}" Index="{0}" PositionX="{1}" PositionXUnit="mm" '
        'PositionY="2" PositionYUnit="µm"><ImageRef ID="Image:{0}"/></WellSample>'
    )
    wells = f"{sample.format(0, 0)}{sample.format(1, 0.015)}"
    with_plate(
        path, f'<Plate ID="Plate:0"><Well ID="W:0" Row="0" Column="0">{wells}</Well></Plate>'
    )
    said = convert(path, tmp_path / "a.ome.zarr")
    assert "positions: where the first pixel is along y, x (in 1 of 2 images)" in said.kept
    fields = xr.open_datatree(tmp_path / "a.ome.zarr", wells="all").ngff.well("A/1").ngff.fields
    starts = [(float(f.ngff.level(0).y[0]), float(f.ngff.level(0).x[0])) for f in fields.values()]
    assert starts == [(2, 0), (2, 15)]


def test_no_pixel_size_is_no_micrometer(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(3, 40, 50), photometric="minisblack")
    tree = open_image(path)
    assert {axis: str(size) for axis, size in tree.ngff.pixel_size.items()} == {
        "z": "1.0 dimensionless",
        "y": "1.0 dimensionless",
        "x": "1.0 dimensionless",
    }
    assert [issue.path for issue in tree.ngff.issues] == ["TIFF: axes", "pixel size"]
    said = convert(path, tmp_path / "a.ome.zarr")
    assert said.issues == tree.ngff.issues
    told = open_image(path, axes="tyx", pixel_size={"y": "0.5 µm", "x": "500 nm", "t": "1 min"})
    assert told.ngff.issues == ()
    assert {axis: str(size) for axis, size in told.ngff.pixel_size.items()} == {
        "t": "60.0 second",
        "y": "0.5 micrometer",
        "x": "0.5 micrometer",
    }
    for wrong in ({"w": 1}, {"x": "-1 µm"}, {"x": "1 s"}):
        with pytest.raises(NgffError, match=r"pixel_size|convert"):
            open_image(path, pixel_size=wrong)


def test_sizes_for_paper_are_not_used_and_those_of_microscopes_are(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(40, 50), resolution=(72, 72), resolutionunit="INCH")
    tree = open_image(path)
    assert str(tree.ngff.pixel_size["x"]) == "1.0 dimensionless"
    assert "353 µm" in tree.ngff.issues[0].message.replace("352.778", "353")
    tifffile.imwrite(path, pixels(40, 50), resolution=(2e4, 4e4), resolutionunit="CENTIMETER")
    tree = open_image(path)
    assert str(tree.ngff.pixel_size["x"]) == "0.5 micrometer"
    assert str(tree.ngff.pixel_size["y"]) == "0.25 micrometer"


def write_slide(path: Path, finest: np.ndarray) -> None:
    """Write a slide as the scanners of Aperio do: levels are pages, the thumbnail the second."""
    height, width, _ = finest.shape
    title = f"Aperio Image Library v11.2.1 \r\n{width}x{height} (256x256) JPEG/RGB Q=70"
    with tifffile.TiffWriter(path) as writer:
        how: dict[str, Any] = {"photometric": "rgb", "metadata": None}
        tiles = {"tile": (64, 64), "compression": "jpeg"}
        writer.write(finest, description=f"{title}|AppMag = 20|MPP = 0.4990", **how, **tiles)
        writer.write(finest[::8, ::8], description=title, **how, rowsperstrip=8)
        writer.write(finest[::4, ::4], description=title, **how, **tiles)
        writer.write(finest[::8, ::8], description=f"{title}\rlabel 1x1", **how, subfiletype=1)
        writer.write(finest[::8, ::8], description=f"{title}\rmacro 1x1", **how, subfiletype=9)


def test_slides_of_aperio(tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    write_slide(path, np.kron(pixels(16, 20, 3, dtype="uint8"), np.ones((32, 32, 1), "uint8")))
    tree = open_image(path)
    assert [each.shape for each in tree.ngff.levels] == [(3, 512, 640), (3, 128, 160)]
    read = tifffile.imread(path, series=0, level=0)
    np.testing.assert_array_equal(tree.ngff.level(0).values, np.moveaxis(read, -1, 0))
    assert str(tree.ngff.pixel_size["x"]) == "0.499 micrometer"
    assert str(tree["1"].ngff.pixel_size["x"]) == "1.996 micrometer"
    said = convert(path, tmp_path / "slide.ome.zarr")
    assert said.format == "Aperio SVS" and "Label, Macro" in said.dropped[0]
    assert "MPP = 0.4990" in tree.attrs["original_metadata"]["text"]
    everything = open_image(path, series="all")
    assert everything.ngff.kind == "collection" and len(everything.ngff.images) == 4


def write_lsm(path: Path, written: np.ndarray) -> None:
    """Write an image of t, z, c, y, x as Zeiss's LSM: a plane and its thumbnail by turns."""
    fields = [(name, f"<{code}") for name, code in tifffile.TIFF.CZ_LSMINFO]
    info = np.zeros(1, dtype=fields)
    t, z, c, y, x = written.shape
    said = {
        "MagicNumber": 0x0400494C,
        "StructureSize": info.nbytes,
        "DimensionX": x,
        "DimensionY": y,
        "DimensionZ": z,
        "DimensionChannels": c,
        "DimensionTime": t,
        "DataType": 1,
        "ScanType": 6,
        "VoxelSizeX": 2.5e-7,
        "VoxelSizeY": 2.5e-7,
        "VoxelSizeZ": 1e-6,
        "TimeIntervall": 1.5,
    }
    for name, value in said.items():
        info[name] = value
    how: dict[str, Any] = {"metadata": None, "contiguous": False, "planarconfig": "separate"}
    with tifffile.TiffWriter(path) as writer:
        for at in np.ndindex(t, z):
            tags = [] if any(at) else [(34412, 1, info.nbytes, info.tobytes(), True)]
            writer.write(written[at], photometric="minisblack", extratags=tags, **how)
            writer.write(np.zeros((3, 16, 16), "u1"), photometric="rgb", subfiletype=1, **how)


def test_lsm(tmp_path: Path) -> None:
    path = tmp_path / "cells.lsm"
    written = pixels(2, 4, 3, 64, 80, dtype="uint8")
    write_lsm(path, written)
    tree = open_image(path)
    np.testing.assert_array_equal(tree.ngff.level(0).values, np.swapaxes(written, 1, 2))
    assert {axis: str(size) for axis, size in tree.ngff.pixel_size.items()} == {
        "t": "1.5 second",
        "z": "1.0 micrometer",
        "y": "0.25 micrometer",
        "x": "0.25 micrometer",
    }
    assert tree.ngff.issues == ()
    said = convert(path, tmp_path / "cells.ome.zarr")
    assert said.format == "Zeiss LSM" and "series='all'" in said.dropped[0]
    again = xr.open_datatree(tmp_path / "cells.ome.zarr")
    np.testing.assert_array_equal(again.ngff.level(0).values, np.swapaxes(written, 1, 2))
    assert "VoxelSizeX" in again.attrs["original_metadata"]["text"]


def test_a_request_reads_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.tif"
    shape = (64, 2048, 4096)  # a gigabyte that takes no place
    tifffile.memmap(path, shape=shape, dtype="uint16", metadata={"axes": "ZYX"})[3, 5, 7] = 9
    packed = tmp_path / "packed.tif"
    tifffile.imwrite(
        packed, pixels(8, 512, 512), compression="zlib", tile=(128, 128), metadata={"axes": "ZYX"}
    )
    read: list[int] = []
    content = tiff_pages.TiffHandle.content

    def counted(self: Any, path: Any, offset: int, count: int) -> Any:
        read.append(count)
        return content(self, path, offset, count)

    monkeypatch.setattr(tiff_pages.TiffHandle, "content", counted)
    large = level(path)
    assert sum(read) <= 1
    assert large[3, 5, 7].item() == 9
    assert sum(read) <= 2048 * 4096 * 2 + 1  # of which the map takes a page of memory
    read.clear()
    tiles = level(packed)
    read.clear()
    tiles[2, 100:300, 200].values  # noqa: B018
    assert len(read) == 3
    tiles[2, 130:140, 130:140].values  # noqa: B018
    assert len(read) == 3  # it was unpacked before


def test_opening_does_not_hold_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    tifffile.memmap(path, shape=(64, 2048, 4096), dtype="uint16", metadata={"axes": "ZYX"})
    import tracemalloc

    tracemalloc.start()
    found = level(path)
    found[5, 100:200, 100:200].values  # noqa: B018
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


def test_dask_arrays_have_the_blocks_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    written = pixels(3, 64, 96)
    tifffile.imwrite(path, written, **GREY, tile=(32, 48), metadata={"axes": "CYX"})
    found = level(path, chunks={})
    assert found.chunks == ((1, 1, 1), (64,), (96,))  # a task of dask reads several tiles
    assert level(path, chunks={"y": 32}).chunks == ((1, 1, 1), (32, 32), (96,))
    np.testing.assert_array_equal(found.compute(scheduler="threads"), written)


def test_files_that_are_truncated(ome: Path, tmp_path: Path) -> None:
    whole = ome.read_bytes()
    packed = tmp_path / "packed.tif"
    tifffile.imwrite(packed, pixels(6, 200, 300), compression="zlib", metadata={"axes": "ZYX"})
    for path in (ome, packed):
        whole = path.read_bytes()
        for part in (0.99, 0.7, 0.3, 0.01):
            cut = tmp_path / f"cut{path.suffix}"
            cut.write_bytes(whole[: int(part * len(whole))])
            target = tmp_path / "cut.ome.zarr"
            with pytest.raises(NgffError):
                convert(cut, target, missing="raise")
            with pytest.raises(NgffError):
                xr.open_datatree(target, engine="ngff")


def test_sizes_that_only_damaged_files_have(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.memmap(path, shape=(1, 2**25), dtype="uint8", metadata={"axes": "YX"})
    with pytest.raises(NgffError, match="is it damaged"):
        open_image(path)


def packed(kind: str, shape: tuple[int, int]) -> bytes:
    import imagecodecs

    encode = getattr(imagecodecs, f"{kind}_encode")
    empty = np.zeros(shape, "uint8")
    return bytes(encode(empty.tobytes() if kind in ("zlib", "zstd", "lzw", "lzma") else empty))


def with_tile(path: Path, compression: str, tile: bytes) -> None:
    """Put something else into the only tile of a file."""
    tifffile.imwrite(path, pixels(64, 64, dtype="uint8"), tile=(64, 64), compression=compression)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        file, tags = tif.filehandle, tif.pages[0].tags
        file.seek(0, 2)
        at = file.tell()
        file.write(tile)
        tags["TileOffsets"].overwrite([at])
        tags["TileByteCounts"].overwrite([len(tile)])


@pytest.mark.parametrize(
    ("compression", "kind"),
    [
        ("zlib", "zlib"),
        ("zstd", "zstd"),
        ("lzw", "lzw"),
        ("lzma", "lzma"),
        ("jpeg", "jpeg8"),
        ("jpeg2000", "jpeg2k"),
        ("png", "png"),
        ("lerc", "lerc"),
    ],
)
def test_tiles_that_unpack_to_more_than_a_tile(compression: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with_tile(path, compression, packed(kind, (64, 64)))
    assert not level(path).values.any()
    with_tile(path, compression, packed(kind, (8192, 8192)))
    if compression in ("lzw", "lzma"):  # which end where the tile is full
        assert not level(path).values.any()
        return
    if compression in ("zlib", "zstd"):
        match = "INSUFFICIENT_SPACE|Destination buffer is too small"
    else:
        match = r"unpacks to 67108864 samples, where 4096 are expected: it is refused"
    with pytest.raises(StoreError, match=match):
        level(path).values  # noqa: B018


def test_webp_and_tiles_that_are_too_large(tmp_path: Path) -> None:
    import imagecodecs

    from ngff_xarray.converting.segments import check

    for lossless in (False, True):
        tile = imagecodecs.webp_encode(np.zeros((8000, 9000, 3), "uint8"), lossless=lossless)
        check(50001, tile, 8000 * 9000 * 3, 1, "a.tif")
        with pytest.raises(StoreError, match="unpacks to 216000000 samples"):
            check(50001, tile, 64 * 64 * 3, 1, "a.tif")
    with pytest.raises(StoreError, match="strips or tiles of 8589934592 bytes"):
        check(8, b"", 2**32, 2, "a.tif")


def test_bombs_where_imagecodecs_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from ngff_xarray.converting import segments

    monkeypatch.setattr(segments, "_has_imagecodecs", lambda: False)
    for number, kind in ((8, "zlib"), (34925, "lzma")):
        segments.check(number, packed(kind, (64, 64)), 4096, 1, "a.tif")
        with pytest.raises(StoreError, match="it is refused"):
            segments.check(number, packed(kind, (8192, 8192)), 4096, 1, "a.tif")


def test_what_no_reader_reads(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="no such file"):
        open_image(tmp_path / "nothing.tif")
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    with pytest.raises(NotOmeError, match=r"no reader can read this[\s\S]*not asked.*tiff"):
        open_image(text)
    text = tmp_path / "notes.tif"
    text.write_text("no image")
    with pytest.raises(NotOmeError, match="- tiff: its first bytes b'no i' are not those"):
        convert(text, tmp_path / "a.ome.zarr")
    assert not (tmp_path / "a.ome.zarr").exists()
    with pytest.raises(SelectionError, match="no reader 'tif': expected one of"):
        open_image(text, reader="tif")


def test_targets_that_cannot_be_written_are_refused_first(ome: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "letter.txt").write_text("keep me")
    with pytest.raises(StoreError, match="something already"):
        convert(ome, taken)
    assert [each.name for each in taken.iterdir()] == ["letter.txt"]
    with pytest.raises(StoreError, match="is what is to be converted"):
        convert(ome, ome)
    with pytest.raises(NgffError, match="chunks: there is no axis 'w'"):
        convert(ome, tmp_path / "a.ome.zarr", chunks={"w": 3})
    assert not (tmp_path / "a.ome.zarr").exists()
    below_a_file = tmp_path / "a.txt" / "a.ome.zarr"
    below_a_file.parent.write_text("")
    with pytest.raises(StoreError, match="Not a directory"):
        convert(ome, below_a_file)


def test_channels_and_labels_as_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(2, 40, 50), metadata={"axes": "CYX"})
    tree = open_image(path, channel_names=["DAPI", "GFP"])
    assert [each.name for each in tree.ngff.channels] == ["DAPI", "GFP"]
    with pytest.raises(SelectionError, match="there are 2 channels, found 1 names"):
        open_image(path, channel_names=["DAPI"])
    assert open_image(path, labels=True).ngff.kind == "labels"
    convert(path, tmp_path / "a.ome.zarr", labels=True)
    assert xr.open_datatree(tmp_path / "a.ome.zarr").ngff.kind == "labels"


def test_xml_that_attacks_is_refused(ome: Path) -> None:
    text = xml(ome)
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb">]>'
    tifffile.tiffcomment(ome, re.sub(r"<OME ", f"{bomb}<OME ", text, count=1).encode())
    with pytest.raises(NgffError, match="document type"):
        open_image(ome)


def test_several_threads_get_the_same(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    path = tmp_path / "a.tif"
    written = pixels(12, 200, 300)
    tifffile.imwrite(path, written, compression="zlib", rowsperstrip=8, metadata={"axes": "ZYX"})
    found = level(path)
    with ThreadPoolExecutor(8) as pool:
        planes = list(pool.map(lambda i: found[i % 12].values, range(48)))
    for i, plane in enumerate(planes):
        np.testing.assert_array_equal(plane, written[i % 12])


def test_converting_again_completes_what_was_killed(tmp_path: Path) -> None:
    path, target = tmp_path / "a.tif", tmp_path / "a.ome.zarr"
    written = RNG.integers(0, 60_000, (20, 512, 1024), dtype="uint16")
    tifffile.imwrite(path, written, metadata={"axes": "ZYX"})
    program = "import sys, ngff_xarray; ngff_xarray.convert(*sys.argv[1:])"
    running = subprocess.Popen([sys.executable, "-c", program, path, target])
    while running.poll() is None and not any(target.glob("0/c/*/*/*")):
        time.sleep(0.002)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    with pytest.raises(IncompleteError):
        xr.open_datatree(target)
    convert(path, target)
    np.testing.assert_array_equal(xr.open_datatree(target).ngff.level(0).values, written)


def test_the_workers_of_a_cluster_read_the_file(tmp_path: Path) -> None:
    from test_distributed import distributed, started

    path = tmp_path / "a.tif"
    written = pixels(8, 200, 300)
    tifffile.imwrite(path, written, compression="zlib", rowsperstrip=16, metadata={"axes": "ZYX"})
    with started(2) as cluster, distributed.Client(cluster) as client:
        convert(path, tmp_path / "a.ome.zarr", chunks={"z": 2, "y": 64, "x": 64}, levels=3)
        seen = client.run(lambda: "ngff_xarray.converting.tiff_pages" in sys.modules)
    assert all(seen.values())
    convert(path, tmp_path / "b.ome.zarr", chunks={"z": 2, "y": 64, "x": 64}, levels=3)
    made, alone = (xr.open_datatree(tmp_path / f"{name}.ome.zarr") for name in "ab")
    np.testing.assert_array_equal(made.ngff.level(0).values, written)
    np.testing.assert_array_equal(made.ngff.level(2).values, alone.ngff.level(2).values)


def test_urls(ome: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/embryo.ome.tif", ome.read_bytes())
    found = level("memory://embryo.ome.tif")  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.values, tifffile.imread(io.BytesIO(ome.read_bytes())))
