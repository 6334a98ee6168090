"""Pictures by matplotlib: physical axes, scale bars, names; panels, cuts, plates, overlays."""

from ngff_xarray.plot.door import plot, plot_group
from ngff_xarray.plot.parts import scale_bar

__all__ = ["plot", "plot_group", "scale_bar"]
