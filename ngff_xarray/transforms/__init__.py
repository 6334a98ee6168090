"""Coordinate transformations: apply, invert, compose, simplify. Numpy only.

Points are arrays of shape ``(..., ndim)``, one column an axis, in the order of the axes.
"""

from ngff_xarray.transforms.algebra import compose, matrix, scale_and_translation, simplify
from ngff_xarray.transforms.composite import Bijection, ByDimension, Part, Sequence
from ngff_xarray.transforms.fields import Coordinates, Displacements, NumericInverse
from ngff_xarray.transforms.grid import Field, Interpolation, Values
from ngff_xarray.transforms.linear import (
    Affine,
    Identity,
    MapAxis,
    Matrix,
    ProjectAxis,
    Rotation,
    Scale,
    Translation,
)
from ngff_xarray.transforms.protocol import Points, Transformation

__all__ = [
    "Affine",
    "Bijection",
    "ByDimension",
    "Coordinates",
    "Displacements",
    "Field",
    "Identity",
    "Interpolation",
    "MapAxis",
    "Matrix",
    "NumericInverse",
    "Part",
    "Points",
    "ProjectAxis",
    "Rotation",
    "Scale",
    "Sequence",
    "Transformation",
    "Translation",
    "Values",
    "compose",
    "matrix",
    "scale_and_translation",
    "simplify",
]
