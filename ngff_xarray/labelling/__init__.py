"""Label images of an image in a store: adding, replacing and removing one, and no other."""

from ngff_xarray.labelling.door import add_labels, check_addable, remove_labels, set_properties
from ngff_xarray.labelling.editing import LabelEdit

__all__ = [
    "LabelEdit",
    "add_labels",
    "check_addable",
    "remove_labels",
    "set_properties",
]
