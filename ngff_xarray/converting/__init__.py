"""Other formats -> trees and stores: a table of readers, each a module that finds images in a file.

A reader describes what it found as `Scan`; `building` makes the tree of it, and `door` writes it.
"""

from __future__ import annotations

from ngff_xarray.converting.door import convert, open_image
from ngff_xarray.converting.report import Conversion

__all__ = ["Conversion", "convert", "open_image"]
