"""``python -m ngff_xarray demo``: the main job on a built-in real image."""

from __future__ import annotations

import argparse
from pathlib import Path

from ngff_xarray.errors import NgffError


def main() -> None:
    """Run the command that the user asks for."""
    parser = argparse.ArgumentParser(prog="python -m ngff_xarray", description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("demo", help="open a real image and draw it")
    command.add_argument("--picture", type=Path, default=Path("cell.png"), help="PNG to write")
    command.set_defaults(run=lambda arguments: demo(arguments.picture))
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (NgffError, OSError, ValueError) as error:
        parser.error(str(error))


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
