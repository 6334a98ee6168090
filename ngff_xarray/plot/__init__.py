"""Pictures by matplotlib: physical axes, scale bars, names; panels, cuts, plates, overlays."""

from ngff_xarray.plot.door import plot
from ngff_xarray.plot.parts import scale_bar

__all__ = ["plot", "scale_bar"]
