"""The ``.ngff`` accessor: doors to the functions, a module a kind of object."""

from ngff_xarray.accessor.door import ngff, register

__all__ = ["ngff", "register"]
