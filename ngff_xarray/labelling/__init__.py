"""Label images of an image in a store: adding, replacing and removing one, and no other."""

from ngff_xarray.labelling.door import add_labels, remove_labels

__all__ = ["add_labels", "remove_labels"]
