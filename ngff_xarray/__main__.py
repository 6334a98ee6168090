"""``python -m ngff_xarray``: the demo, and what the metadata of a store get wrong."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ngff_xarray.errors import NgffError
from ngff_xarray.text import printable


def main() -> None:
    """Run the command that the user asks for."""
    parser = argparse.ArgumentParser(prog="python -m ngff_xarray", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("demo", help="open a real image and draw it")
    command.add_argument("--picture", type=Path, default=Path("cell.png"), help="PNG to write")
    command.set_defaults(run=lambda arguments: demo(arguments.picture))
    command = commands.add_parser("validate", help="hold a store against the specification")
    _add_store(command)
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.set_defaults(run=lambda a: validate(a.store, a.group, as_json=a.json))
    command = commands.add_parser("repair", help="show, or make, the changes that mend a store")
    _add_store(command)
    command.add_argument("--apply", action="store_true", help="make the changes, with a backup")
    command.set_defaults(run=lambda a: repair(a.store, a.group, apply=a.apply))
    arguments = parser.parse_args()
    try:
        sys.exit(arguments.run(arguments))
    except (NgffError, OSError, ValueError) as error:
        parser.error(str(error))


def _add_store(command: argparse.ArgumentParser) -> None:
    command.add_argument("store", help="path or URL")
    command.add_argument("--group", help="the group to start from, where it is not the root")


def validate(source: str, group: str | None, *, as_json: bool) -> int:
    """Print what a store breaks of the specification; return 1 where that is a MUST."""
    import ngff_xarray

    found = ngff_xarray.validate(source, group=group)
    print(found.to_json() if as_json else found)
    return 0 if found.valid else 1


def repair(source: str, group: str | None, *, apply: bool) -> int:
    """Print what can be mended in a store, and mend it if told to."""
    import ngff_xarray

    found = ngff_xarray.repair(source, group=group)
    print(found)
    if (found.changes or found.leftovers) and not apply:
        print("nothing was changed: add --apply to make these changes")
    for backup in found.apply() if apply else ():
        print(f"kept {printable(backup, 200)}")
    return 0


def demo(picture: Path) -> None:
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
    axes.figure.savefig(picture, dpi=150)
    print(f"\nwrote {picture.resolve()}")


if __name__ == "__main__":
    main()
