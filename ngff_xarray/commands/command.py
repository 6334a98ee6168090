"""What a command is, and the arguments that several of them take."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

FINE, NOT_FINE, WRONG_USE = 0, 1, 2
"""What a command exits with."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Parameters
    ----------
    name
        What the user types.
    text
        What it does, in a line.
    more
        What to know before it is used, in a sentence or two.
    examples
        Lines that the user could type, without the name of the program.
    add
        Adds its arguments to a parser.
    run
        Does it, and returns what to exit with.
    """

    name: str
    text: str
    more: str
    examples: Sequence[str]
    add: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_source(parser: argparse.ArgumentParser, *, group: bool = True) -> None:
    """Add the store that a command looks at, and how to get at it."""
    parser.add_argument("store", help="the OME-Zarr: image.ome.zarr, https://…, s3://…")
    if group:
        parser.add_argument(
            "--group", metavar="PART", help='one part of it: the well "B/3", "labels/nuclei"'
        )
    add_access(parser)


_ACCESS = (
    "how to reach a URL, where your credentials do not say it: anon=true, endpoint_url=https://…; "
    "may be repeated"
)


def add_access(
    parser: argparse.ArgumentParser, name: str = "--option", text: str = _ACCESS
) -> None:
    """Add how to get at a URL."""
    parser.add_argument(
        name, action="append", default=[], type=option, metavar="NAME=VALUE", help=text
    )


def add_both_accesses(parser: argparse.ArgumentParser) -> None:
    """Add how to get at the URL of a source, and at that of a target."""
    add_access(parser, "--source-option", f"for the source: {_ACCESS}")
    add_access(parser, "--option", "the same for the target")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add whether to print JSON."""
    parser.add_argument(
        "--json", action="store_true", help="print JSON, for other programs to read"
    )


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Add whether to show a bar."""
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show a bar, or none; by default one in terminals, after a second",
    )


def option(text: str) -> tuple[str, Any]:
    """Return a name and a value; values that are JSON are read as such.

    Examples
    --------
    >>> option("anon=true"), option("z=2 µm")
    (('anon', True), ('z', '2 µm'))
    """
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise argparse.ArgumentTypeError("expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def region(text: str) -> tuple[str, slice]:
    """Return an axis and the region that is meant along it.

    Examples
    --------
    >>> region("x=10 µm:60 µm"), region("t=:3")
    (('x', slice('10 µm', '60 µm', None)), ('t', slice(None, 3, None)))
    """
    name, sign, value = text.partition("=")
    start, colon, stop = value.partition(":")
    if not (name and sign and colon):
        raise argparse.ArgumentTypeError('expected AXIS=START:STOP, as "x=10 µm:60 µm"')
    return name, slice(_bound(start), _bound(stop))


def _bound(text: str) -> Any:
    return option(f"bound={text}")[1] if text.strip() else None


def sizes(text: str) -> Any:
    """Return the sizes of chunks: ``auto``, one number for all axes, or one each.

    Examples
    --------
    >>> sizes("auto"), sizes("1,512,512")
    ('auto', (1, 512, 512))
    """
    if text == "auto":
        return text
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            'expected "auto", or a number an axis: 1,512,512'
        ) from None


def add_layout(parser: argparse._ActionsContainer) -> None:
    """Add how what is written is stored."""
    parser = parser.add_argument_group("how it is stored (the defaults are fine)")
    parser.add_argument(
        "--version",
        choices=("0.4", "0.5", "0.6"),
        help="of OME-Zarr; 0.4 for older programs; default: 0.5, or that of an OME-Zarr source",
    )
    parser.add_argument(
        "--chunks",
        type=sizes,
        metavar="SIZES",
        help="pixels of a chunk, which is read as one: a number an axis, as 1,256,256, or auto",
    )
    parser.add_argument(
        "--shards",
        type=sizes,
        metavar="SIZES",
        help="pixels of a shard, a file of many chunks: fewer files; a number an axis, or auto",
    )
    parser.add_argument(
        "--compressor", choices=("zstd", "blosc"), help="how pixels are packed, without loss"
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add whether something may be at the target."""
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the OME-Zarr that is at the target"
    )


def print_json(document: Any) -> None:
    """Print a document as JSON."""
    print(json.dumps(document, indent=2, default=str))
