"""The command ``ngff-xarray``: what the package does, for who has a terminal and no notebook."""

from ngff_xarray.commands.line import main

__all__ = ["main"]
