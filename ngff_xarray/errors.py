"""The errors of this package: one family, and what a store's metadata can get wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ngff_xarray.text import printable


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that a store's metadata says wrongly, oddly or not at all.

    Parameters
    ----------
    path
        Where it stands, as a JSON path below the group's OME document
        (``multiscales[0].axes[2].unit``).
    message
        What was found, what was expected, and how it was read.
    severity
        ``"error"`` breaks a MUST of the specification, ``"warning"`` a SHOULD or a habit.
    rule
        What the specification says, in its words; empty where it says nothing about this.
    section
        Where it says so: the version and the section.
    mend
        What to do about it.
    group
        The group that holds the document, below the store that was asked for.
    """

    path: str
    message: str
    severity: Literal["error", "warning"] = "warning"
    rule: str = ""
    section: str = ""
    mend: str = ""
    group: str = ""

    def __str__(self) -> str:
        where = f"{self.group}: {self.path}" if self.group else self.path
        return f"{self.severity}: {printable(where, 500)}: {self.message}"


class NgffError(Exception):
    """Whatever goes wrong in this package and is not the caller's type error.

    Examples
    --------
    >>> import xarray as xr
    >>> try:
    ...     xr.open_datatree("nothing.ome.zarr")
    ... except NgffError as error:  # or FileNotFoundError, which this one is, too
    ...     print(type(error).__name__)
    StoreNotFoundError
    """


class StoreError(NgffError, OSError):
    """A store that cannot be reached or read."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is nothing at this path or URL."""


class BusyError(StoreError):
    """Another writer changes it at this moment."""


class UntrustedError(StoreError, PermissionError):
    """References that lead outside the place that they came from."""


class IncompleteError(StoreError):
    """A store whose writing was begun and has not ended."""


class DeniedError(StoreError, PermissionError):
    """A store that refuses to be read or written."""


class NotOmeError(NgffError, ValueError):
    """A store or an object that holds no OME-Zarr image."""


class UnsupportedError(NgffError, NotImplementedError):
    """Valid OME-Zarr that this release cannot open yet."""


class SelectionError(NgffError, ValueError):
    """A level, region, position, channel or label that the image does not have."""


class UnitError(NgffError, ValueError):
    """A physical quantity that cannot be understood or converted."""


class BlockError(NgffError, RuntimeError):
    """A function that fails on a block of an image, or returns what does not fit.

    Parameters
    ----------
    message
        What went wrong.
    region
        The block, as ``tree.ngff.sel(**error.region)`` takes it: axis -> slice, in its unit.
    """

    def __init__(self, message: str, region: Mapping[str, slice]) -> None:
        super().__init__(message)
        self.region = dict(region)

    def __reduce__(self) -> tuple[type[BlockError], tuple[str, dict[str, slice]]]:
        return type(self), (str(self), self.region)


class TransformationError(NgffError, ValueError):
    """A transformation that does not fit, has no inverse, or systems that nothing connects."""


class MissingDependencyError(NgffError, ImportError):
    """An optional package that is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f'{purpose} needs {package}, which is not installed: pip install "ngff-xarray[{extra}]"'
        )
        self._said = package, extra, purpose

    def __reduce__(self) -> tuple[type[MissingDependencyError], tuple[str, str, str]]:
        return type(self), self._said


_SHOWN = 20  # faults in the text of an error


class MetadataError(NgffError, ValueError):
    """Metadata that cannot be used, with every fault that was found.

    Parameters
    ----------
    source
        The store, as a path or URL.
    issues
        What is wrong, and where.

    Examples
    --------
    >>> raise MetadataError("cell.ome.zarr", [Issue("multiscales[0].axes", "is missing", "error")])
    Traceback (most recent call last):
    ...
    ngff_xarray.errors.MetadataError: cell.ome.zarr: multiscales[0].axes: is missing
    """

    def __init__(self, source: str, issues: Sequence[Issue]) -> None:
        self.source = source
        self.issues = tuple(issues)
        faults = [f"{issue.path}: {issue.message}" for issue in self.issues[:_SHOWN]]
        if len(self.issues) > _SHOWN:
            faults.append(f"… and {len(self.issues) - _SHOWN} more: see .issues")
        text = faults[0] if len(faults) == 1 else "\n  - ".join(["invalid OME-Zarr:", *faults])
        super().__init__(f"{source}: {text}")

    def __reduce__(self) -> tuple[type[MetadataError], tuple[str, tuple[Issue, ...]]]:
        return type(self), (self.source, self.issues)
