"""Images in their coordinate systems: points, coordinates and pixels in any of them.

An image's coordinates are in one of its systems (the *current* one: the intrinsic one as opened).
`transform` leads points to another, `to_system` gives the image other coordinates and leaves its
pixels alone, `resample` computes new pixels on a regular grid. `with_system` says where it lies in
one more.
"""

from ngff_xarray.world.connections import coordinate_systems, current_system, graph
from ngff_xarray.world.linking import with_system
from ngff_xarray.world.placing import to_system
from ngff_xarray.world.points import transform
from ngff_xarray.world.resampling import resample
from ngff_xarray.world.restoring import restored

__all__ = [
    "coordinate_systems",
    "current_system",
    "graph",
    "resample",
    "restored",
    "to_system",
    "transform",
    "with_system",
]
