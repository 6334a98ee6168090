"""Commands that write: a store from a file or from another store, or changes in one."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from ngff_xarray.commands.command import (
    FINE,
    Command,
    add_access,
    add_both_accesses,
    add_json,
    add_layout,
    add_overwrite,
    add_progress,
    add_source,
    option,
    print_json,
    region,
)
from ngff_xarray.commands.opening import opened
from ngff_xarray.errors import SelectionError
from ngff_xarray.text import printable
from ngff_xarray.urls import without_secrets


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a file, a folder, a URL, or a pattern in quotes: '*.tif'")
    parser.add_argument("target", help="path or URL of the OME-Zarr to write")
    add_overwrite(parser)
    parser.add_argument(
        "--series",
        type=_series,
        metavar="IMAGE",
        help="of several images, this one: number or name",
    )
    add_both_accesses(parser)
    add_json(parser)
    add_progress(parser)
    _add_unsaid(parser.add_argument_group("what the file does not say, or says wrongly"))
    add_layout(parser)


def _add_unsaid(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--pixel-size",
        action="append",
        default=[],
        type=option,
        metavar="AXIS=SIZE",
        help='as --pixel-size "z=2 µm"; may be repeated, once an axis',
    )
    parser.add_argument("--channel-names", metavar="NAMES", help="separated by commas: DAPI,GFP")
    parser.add_argument("--axes", help="the order of the axes: tczyx")
    parser.add_argument(
        "--labels",
        action=argparse.BooleanOptionalAction,
        help="whether pixels are numbers of objects, a segmentation, and not brightness",
    )
    parser.add_argument("--pattern", help='how files of a folder are called: "img_{c}_{z}.tif"')
    parser.add_argument(
        "--fill-missing",
        action="store_true",
        help="planes that are missing are zeros; by default they are an error",
    )
    parser.add_argument("--path", help="where in an HDF5, N5 or Zarr file the array is")
    parser.add_argument("--reader", help="the format to read it as: tiff, bioio, …")


def _series(text: str) -> Any:
    return int(text) if text.isdigit() else text


def convert(given: argparse.Namespace) -> int:
    """Convert a file, and print what was kept and what was not."""
    import ngff_xarray

    found = ngff_xarray.convert(
        given.source,
        given.target,
        mode="w" if given.overwrite else "w-",
        version=given.version,
        reader=given.reader,
        series=given.series,
        path=given.path,
        axes=given.axes,
        pattern=given.pattern,
        pixel_size=dict(given.pixel_size) or None,
        channel_names=given.channel_names.split(",") if given.channel_names else None,
        labels=given.labels,
        missing="fill" if given.fill_missing else "raise",
        source_options=dict(given.source_option) or None,
        storage_options=dict(given.option) or None,
        progress=given.progress,
        chunks=given.chunks,
        shards=given.shards,
        compressor=given.compressor,
    )
    if given.json:
        print_json(asdict(found))
    else:
        print(found)
    return FINE


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="the OME-Zarr: image.ome.zarr, https://…, s3://…")
    parser.add_argument("target", help="the file to write: .ome.tif, .nii, .nii.gz or .npy")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the file that is at the target"
    )
    parser.add_argument(
        "--group",
        metavar="PART",
        help='one part of it: "labels/nuclei", a field of a plate "B/3/0"',
    )
    parser.add_argument(
        "--region",
        action="append",
        default=[],
        type=region,
        metavar="AXIS=START:STOP",
        help='only this region: --region "x=10 µm:60 µm"; may be repeated, once an axis',
    )
    add_access(parser)
    add_progress(parser)


_FILES = {
    (".tif", ".tiff"): "to_ome_tiff",
    (".nii", ".nii.gz"): "to_nifti",
    (".npy",): "to_numpy",
}


def export(given: argparse.Namespace) -> int:
    """Write an image as a file of another format, which the name of the file says."""
    known = [method for ends, method in _FILES.items() if given.target.lower().endswith(ends)]
    if not known:
        raise SelectionError(
            f"{printable(given.target, 200)}: no known end of a file's name: expected .ome.tif, "
            ".nii, .nii.gz or .npy"
        )
    tree = opened(given.source, group=given.group, options=dict(given.option))
    part = tree.ngff.crop(dict(given.region)) if given.region else tree
    write = getattr(part.ngff, known[0])
    write(given.target, overwrite=given.overwrite, progress=given.progress)
    print(f"wrote {printable(given.target, 500)}")
    return FINE


def _add_copy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="the OME-Zarr: image.ome.zarr, https://…, s3://…")
    parser.add_argument("target", help="path or URL of the OME-Zarr to write")
    add_overwrite(parser)
    parser.add_argument(
        "--group", metavar="PART", help='one part of it: the well "B/3", "labels/nuclei"'
    )
    parser.add_argument(
        "--region",
        action="append",
        default=[],
        type=region,
        metavar="AXIS=START:STOP",
        help='only this region: --region "x=10 µm:60 µm"; may be repeated, once an axis',
    )
    parser.add_argument(
        "--levels",
        type=_numbers,
        metavar="NUMBERS",
        help="only these levels, separated by commas; 0 is the finest",
    )
    parser.add_argument(
        "--channels", metavar="NAMES", help="only these channels, separated by commas"
    )
    parser.add_argument(
        "--check", action="store_true", help="read both again afterwards, and compare all pixels"
    )
    add_both_accesses(parser)
    add_progress(parser)
    add_layout(parser)


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError("expected numbers, as 1,2") from None


def copy(given: argparse.Namespace) -> int:
    """Copy a store, or a part of one."""
    import xarray as xr

    tree = xr.open_datatree(
        given.source,
        engine="ngff",
        group=given.group,
        storage_options=dict(given.source_option) or None,
    )
    tree.ngff.copy_to(
        given.target,
        region=dict(given.region),
        levels=given.levels,
        channels=given.channels.split(",") if given.channels else None,
        check=given.check,
        mode="w" if given.overwrite else "w-",
        version=given.version,
        chunks=given.chunks,
        shards=given.shards,
        compressor=given.compressor,
        progress=given.progress,
        storage_options=dict(given.option) or None,
    )
    print(f"copied to {printable(without_secrets(given.target), 500)}")
    return FINE


def _add_repair(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument(
        "--apply",
        action="store_true",
        help="make the changes; a backup of each file that changes stays beside it",
    )


def repair(given: argparse.Namespace) -> int:
    """Print what can be mended in a store, and mend it if told to."""
    import ngff_xarray

    options = dict(given.option) or None
    found = ngff_xarray.repair(given.store, group=given.group, storage_options=options)
    print(found)
    if (found.changes or found.leftovers) and not given.apply:
        print("nothing was changed: add --apply to make these changes")
    for backup in found.apply() if given.apply else ():
        print(f"kept {printable(backup, 200)}")
    return FINE


CHANGING = (
    Command(
        "convert",
        "write a file of a microscope as OME-Zarr",
        "Pixel sizes, channels and the original metadata come along, and it prints what was kept "
        "and what was not. If it is interrupted, run it again: it goes on where it stopped.",
        [
            "convert scan.ims scan.ome.zarr",
            'convert stack.tif stack.ome.zarr --pixel-size "z=2 µm" --channel-names DAPI,GFP',
            "convert 'img_*.tif' scan.ome.zarr --pattern 'img_{c}_{z}.tif' --shards auto",
        ],
        _add_convert,
        convert,
    ),
    Command(
        "copy",
        "copy an OME-Zarr, or a part of one: from a server, to a bucket, or stored differently",
        "If it is interrupted, run it again: it goes on where it stopped.",
        [
            "copy https://host/scan.ome.zarr scan.ome.zarr --check",
            'copy scan.ome.zarr part.ome.zarr --region "x=10 µm:60 µm" --channels DAPI',
            "copy scan.ome.zarr s3://bucket/scan.ome.zarr --chunks auto --shards auto",
        ],
        _add_copy,
        copy,
    ),
    Command(
        "export",
        "write an image as OME-TIFF, NIfTI or NumPy file, for programs that read no OME-Zarr",
        "The end of the target's name says which. Pixel sizes and channels come along in OME-TIFF; "
        "export a region where the whole is too large.",
        [
            "export https://host/scan.ome.zarr scan.ome.tif",
            'export scan.ome.zarr part.nii.gz --region "x=10 µm:60 µm"',
            "export scan.ome.zarr nuclei.ome.tif --group labels/nuclei",
        ],
        _add_export,
        export,
    ),
    Command(
        "repair",
        "mend what an OME-Zarr says of itself, and what interrupted programs left",
        "Shows the changes, and makes none of them until you add --apply.",
        ["repair image.ome.zarr", "repair image.ome.zarr --apply"],
        _add_repair,
        repair,
    ),
)
