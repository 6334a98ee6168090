"""The list of what is wrong or odd in a document, gathered while it is read."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from ngff_xarray.errors import Issue, MetadataError
from ngff_xarray.spec.rules import Rule
from ngff_xarray.text import printable

_MOST = 1000  # characters of a message


@dataclass(slots=True)
class Report:
    """Gathers issues; those that leave nothing to read with are kept apart.

    Parameters
    ----------
    source
        The store and group, for the error message.
    version
        The version of the specification that the document follows, once it is known.
    """

    source: str
    version: str = ""
    issues: list[Issue] = field(default_factory=list)
    faults: list[Issue] = field(default_factory=list)

    def warn(self, path: str, rule: Rule | None, message: str) -> None:
        """Note something that breaks a SHOULD, or is odd."""
        self.issues.append(self._issue(path, rule, message, "warning"))

    def error(self, path: str, rule: Rule | None, message: str) -> None:
        """Note something that breaks a MUST and can be read all the same."""
        self.issues.append(self._issue(path, rule, message, "error"))

    def fail(self, path: str, rule: Rule | None, message: str) -> None:
        """Note something that makes the document unreadable, and go on looking."""
        self.faults.append(self._issue(path, rule, message, "error"))

    def keep_going(self) -> None:
        """Take the faults found so far for errors: what was read is usable without them."""
        self.issues += self.faults
        self.faults.clear()

    def stop(self, path: str, rule: Rule | None, message: str) -> NoReturn:
        """Raise for something that leaves nothing to look at, with all faults found before.

        Raises
        ------
        MetadataError
            Always.
        """
        self.fail(path, rule, message)
        raise MetadataError(self.source, self.faults)

    def _issue(
        self, path: str, rule: Rule | None, message: str, severity: Literal["error", "warning"]
    ) -> Issue:
        message = printable(message, _MOST)
        if rule is None:
            return Issue(path, message, severity)
        section = f"OME-Zarr {self.version}, {rule.section}" if self.version else rule.section
        return Issue(path, message, severity, rule.text, section, rule.mend)

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
