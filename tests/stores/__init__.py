"""Example stores for tests, made with zarr-python and hand-written JSON.

Nothing here imports ``ngff_xarray``: its readers are tested on what others could have written.
"""

from stores.groups import document, edit_attributes, write_array, write_group
from stores.images import LabelSpec, write_field, write_image, write_several
from stores.layouts import Version
from stores.multiscales import AXES, Json
from stores.pixels import N_OBJECTS, Array
from stores.plain import write_plain
from stores.plates import write_plate
from stores.scenes import write_scene
from stores.series import write_series

__all__ = [
    "AXES",
    "N_OBJECTS",
    "Array",
    "Json",
    "LabelSpec",
    "Version",
    "document",
    "edit_attributes",
    "write_array",
    "write_field",
    "write_group",
    "write_image",
    "write_plain",
    "write_plate",
    "write_scene",
    "write_series",
    "write_several",
]
