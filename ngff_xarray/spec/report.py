"""The list of what is wrong or odd in a document, gathered while it is read."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field

from ngff_xarray.errors import Issue, MetadataError


@dataclass(slots=True)
class Report:
    """Gathers issues; those that leave nothing to read with are kept apart.

    Parameters
    ----------
    source
        The store and group, for the error message.
    """

    source: str
    issues: list[Issue] = field(default_factory=list)
    faults: list[Issue] = field(default_factory=list)

    def warn(self, path: str, message: str) -> None:
        """Note something that breaks a SHOULD, or is odd."""
        self.issues.append(Issue(path, message, "warning"))

    def error(self, path: str, message: str) -> None:
        """Note something that breaks a MUST and can be read all the same."""
        self.issues.append(Issue(path, message, "error"))

    def fail(self, path: str, message: str) -> None:
        """Note something that makes the image unreadable, and go on looking."""
        self.faults.append(Issue(path, message, "error"))

    def check(self) -> None:
        """Raise all faults found so far, if there are any.

        Raises
        ------
        MetadataError
            With every fault and where it stands.
        """
        if self.faults:
            raise MetadataError(self.source, self.faults)


# stores may nest deeper than repr can go, and be larger than it should
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 4
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80
_SHORT.maxlist = _SHORT.maxdict = 10


def shown(value: object) -> str:
    """Return a short text of what was found, for messages."""
    text = _SHORT.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
