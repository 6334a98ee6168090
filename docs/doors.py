"""What the reference tells of ``.ngff``, from docstrings; the tests hold it against the package.

Which accessor stands behind ``.ngff`` depends on the object, which tools for accessors do not know.
And a method of it is a door: what its parameters are is told by the function that it calls, so that
both docstrings come together here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection
from importlib import import_module
from typing import Any

from ngff_xarray.accessor import base, groups, images, plates, trees

# how examples call an object of the kind -> the accessor that it has; the next ones have all of
# what those before them have
KINDS: dict[str, type] = {
    "node": base.Accessor,
    "image": images.ImageAccessor,
    "tree": trees.TreeAccessor,
    "labels": trees.LabelsAccessor,
    "group": groups.GroupAccessor,
    "plate": plates.PlateAccessor,
    "collection": groups.CollectionAccessor,
    "well": groups.WellAccessor,
    "scene": groups.SceneAccessor,
}
# "…; see `x`." at the end of a sentence, or "See `x`." as one
_SEE = re.compile(r";\s*see\s+`([\w.]+)`|\s+See\s+`([\w.]+)`\.")
_SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)


def members(kind: str) -> dict[str, Any]:
    """Return the public methods and properties that a kind adds, by name, as they are written."""
    return {name: each for name, each in vars(KINDS[kind]).items() if not name.startswith("_")}


def docstring(member: Any) -> str:
    """Return the docstring of a method, property or function, without its indentation."""
    return inspect.getdoc(member) or ""


def behind(name: str, member: Any) -> Callable[..., Any] | None:
    """Return the function that a method's docstring sends to, if it does."""
    found = _SEE.search(docstring(member))
    if found is None:
        return None
    path = "ngff_xarray." + (found[1] or found[2]).removeprefix("ngff_xarray.")
    try:
        module = import_module(path)
    except ModuleNotFoundError:
        parent, _, name = path.rpartition(".")
        module = import_module(parent)
    function: Callable[..., Any] = getattr(module, name)
    return function


def sections(text: str) -> dict[str, str]:
    """Return the sections of a numpydoc docstring by title; the first one's is empty."""
    parts = _SECTION.split(text)
    return dict(zip(["", *parts[1::2]], parts[0::2], strict=True))


def told(name: str, member: Any) -> str:
    """Return what is to be read about a member: its own docstring, with its function's sections."""
    own = sections(docstring(member))
    function = behind(name, member)
    of_function = sections(docstring(function)) if function else {}
    text = _SEE.sub("", own.pop("")).strip()
    rest = of_function.pop("", "").partition("\n\n")[2].strip()  # its first line says the same
    if function and "Parameters" in of_function:
        taken = inspect.signature(member).parameters
        of_function["Parameters"] = _only(taken, of_function["Parameters"])
    joined = {**of_function, **own}
    order = ["Parameters", "Returns", "Raises", "Notes", "References", "Examples"]
    lines = [text, rest]
    for title in sorted(joined, key=order.index):
        lines.append(f"{title}\n{'-' * len(title)}\n{joined[title].strip(chr(10))}")
    return "\n\n".join(filter(None, lines))


def _only(taken: Collection[str], parameters: str) -> str:
    """Return what a section says of those parameters that a method takes, too."""
    entries = re.findall(r"^\S.*\n(?:(?: .*)?\n?)*", parameters, re.MULTILINE)
    any_other = "options" in taken
    kept = []
    for entry in entries:
        names = [name.strip(" *") for name in entry.partition("\n")[0].split(",")]
        if any_other or any(name in taken for name in names):
            kept.append(entry.rstrip())
    return "\n".join(kept)


def first_line(member: Any) -> str:
    """Return the summary of a docstring."""
    return _SEE.sub("", docstring(member).partition("\n\n")[0]).replace("\n", " ").rstrip(".")
