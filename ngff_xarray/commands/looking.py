"""Commands that change nothing: what is there, whether it is right, and how it looks."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ngff_xarray.commands.command import (
    FINE,
    NOT_FINE,
    Command,
    add_json,
    add_progress,
    add_source,
    option,
    print_json,
)
from ngff_xarray.commands.facts import facts
from ngff_xarray.commands.opening import opened
from ngff_xarray.urls import without_secrets

_NEXT = """
Next:
  your own image     ngff-xarray info PATH-OR-URL    (ngff-xarray --help: all commands)
  in Python          import xarray as xr; xr.open_datatree(PATH_OR_URL).ngff
  step by step       the notebooks in the folder notebooks/, first 01_open.ipynb"""


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--picture",
        type=Path,
        default=Path("cell.png"),
        metavar="PNG",
        help="the picture to write; default: cell.png",
    )


def demo(given: argparse.Namespace) -> int:
    """Make the sample, open it with plain xarray, print what it is, and write a picture."""
    import matplotlib as mpl
    import xarray as xr

    from ngff_xarray import sample

    mpl.use("agg")  # a terminal may have no display
    tree = xr.open_datatree(sample("cell"))
    print(tree)
    print()
    print(tree.ngff)
    axes = tree.ngff.plot(labels="cell", outline=True)
    axes.figure.savefig(given.picture, dpi=150)
    print(f"\nwrote {given.picture.resolve()}")
    print(_NEXT)
    return FINE


def _add_info(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    add_json(parser)


def info(given: argparse.Namespace) -> int:
    """Print what an image holds."""
    tree = opened(given.store, group=given.group, options=dict(given.option))
    if given.json:
        print_json(facts(tree))
    else:
        print(tree.ngff)
    return FINE


def _add_validate(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    add_json(parser)
    add_progress(parser)


def validate(given: argparse.Namespace) -> int:
    """Print what a store breaks of the specification."""
    import ngff_xarray

    found = ngff_xarray.validate(
        given.store,
        group=given.group,
        storage_options=dict(given.option) or None,
        progress=given.progress,
    )
    print(found.to_json() if given.json else found)
    return FINE if found.valid else NOT_FINE


def _add_verify(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    add_json(parser)
    add_progress(parser)


def verify(given: argparse.Namespace) -> int:
    """Read every chunk, and print which are damaged or missing."""
    import xarray as xr

    from ngff_xarray.verifying import verify

    options = dict(given.option) or None
    tree = xr.open_datatree(given.store, engine="ngff", group=given.group, storage_options=options)
    found = verify(tree, progress=given.progress)
    if given.json:
        print_json({"ok": found.ok, **asdict(found)})
    else:
        print(found)
    return FINE if found.ok else NOT_FINE


def _add_quicklook(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("quicklook.png"),
        metavar="PNG",
        help="the picture to write; default: quicklook.png",
    )
    parser.add_argument(
        "--channels",
        metavar="NAMES",
        help="which channels, separated by commas; default: those that the image says",
    )
    parser.add_argument("--labels", metavar="NAME", help="the label image to draw on top")
    parser.add_argument(
        "--at",
        action="append",
        default=[],
        type=option,
        metavar="AXIS=PLACE",
        help='which plane: --at "z=3 µm" --at t=0; default: the middle; may be repeated',
    )
    parser.add_argument(
        "--projection", choices=("max", "mean", "min"), help="look through all z planes"
    )
    parser.add_argument(
        "--level",
        type=option_value,
        help='how coarse: 0 is the finest level, or give a pixel size, "1 µm"; default: what fits',
    )
    parser.add_argument(
        "--plain",
        type=int,
        metavar="PIXELS",
        help="only the image, without axes and scale bar, at most so many pixels a side",
    )


def option_value(text: str) -> Any:
    """Return a number, or text."""
    return option(f"value={text}")[1]


def quicklook(given: argparse.Namespace) -> int:
    """Write a picture of an image, or of a group of them."""
    import matplotlib as mpl

    mpl.use("agg")  # a terminal may have no display
    tree = opened(given.store, group=given.group, options=dict(given.option))
    if given.plain is not None:
        tree.ngff.thumbnail(given.plain).save(given.output, format="png")
    else:
        _figure(tree, given).savefig(given.output, format="png", dpi=150, bbox_inches="tight")
    print(f"wrote {given.output.resolve()}")
    return FINE


def _figure(tree: Any, given: argparse.Namespace) -> Any:
    """Return a figure with the image in it."""
    import numpy as np

    drawn = tree.ngff.plot(
        channels=given.channels.split(",") if given.channels else None,
        labels=given.labels,
        level=given.level,
        projection=given.projection,
        **dict(given.at),
    )
    return np.atleast_1d(np.asarray(drawn, dtype=object)).flat[0].figure


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add_source(parser, group=False)
    parser.add_argument(
        "--port", type=int, default=0, help="the number behind the address; default: any free one"
    )


def serve(given: argparse.Namespace) -> int:
    """Serve a store until Ctrl-C."""
    import ngff_xarray

    ended = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        options = dict(given.option) or None
        with ngff_xarray.serve(given.store, port=given.port, storage_options=options) as served:
            print(served.url, flush=True)
            shown = without_secrets(given.store)
            print(f"{shown} is served to this computer until Ctrl-C", file=sys.stderr, flush=True)
            while not ended.wait(0.5):  # Windows hears Ctrl-C between two waits only
                pass
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    return FINE


_SCAN = "https://host/scan.ome.zarr"
LOOKING = (
    Command(
        "info",
        "say what an image is: its axes, pixel sizes, levels, channels and labels",
        "Of an OME-Zarr it reads a few lines of text and no pixel, however large the image is. "
        "Files in other formats work, too.",
        ["info image.ome.zarr", f"info {_SCAN} --json", 'info plate.ome.zarr --group "B/3"'],
        _add_info,
        info,
    ),
    Command(
        "quicklook",
        "write a picture of an image as PNG, with a scale bar",
        "Draws the channels in the colours that the image gives them, from the level that is as "
        "fine as the picture. A plate becomes a mosaic of its wells.",
        [
            f"quicklook {_SCAN} -o scan.png",
            'quicklook image.ome.zarr --channels DAPI,GFP --at "z=3 µm" --labels nuclei',
        ],
        _add_quicklook,
        quicklook,
    ),
    Command(
        "validate",
        "check what an OME-Zarr says of itself against the specification",
        "Lists every fault, with its place and how to mend it. It reads no pixel: verify does.",
        ["validate image.ome.zarr", f"validate {_SCAN} --json"],
        _add_validate,
        validate,
    ),
    Command(
        "verify",
        "read all pixels of an OME-Zarr, and list the chunks that are damaged or missing",
        "For after a copy, and before the original is deleted. It reads pixels only: what an "
        "OME-Zarr says of itself is checked by validate.",
        ["verify image.ome.zarr", f"verify {_SCAN} --json"],
        _add_verify,
        verify,
    ),
    Command(
        "serve",
        "give an OME-Zarr an address, for viewers in a browser on this computer",
        "Prints the address, to paste into a viewer such as Neuroglancer. Other computers cannot "
        "reach it, and Ctrl-C ends it.",
        ["serve image.ome.zarr", "serve s3://bucket/scan.ome.zarr --option anon=true"],
        _add_serve,
        serve,
    ),
    Command(
        "demo",
        "open a built-in image of a cell and draw it",
        "Prints what xarray and ngff_xarray see of it, writes a picture, and says what to do next. "
        "It needs ngff-xarray[sample], and downloads nothing.",
        ["demo"],
        _add_demo,
        demo,
    ),
)
