"""A picture beside a widget, for whatever shows no widgets."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ngff_xarray.text import printable


@dataclass(frozen=True)
class PictureBundle:
    """A PNG and a line of text that a widget carries along.

    nbconvert, GitHub and PDF have no kernel and show the picture; a terminal shows the text; where
    widgets live they come first.

    Parameters
    ----------
    picture
        Makes the PNG when the widget is displayed. One that fails does not keep the widget away:
        the text says why there is none.
    text
        What the widget shows, in words.

    Examples
    --------
    >>> bundle = PictureBundle(lambda: b"PNG", "image 'cell', 2 channels")
    >>> data, metadata = bundle.beside({"application/vnd.jupyter.widget-view+json": {}})
    >>> data["image/png"], data["text/plain"]
    ('UE5H', "image 'cell', 2 channels")
    """

    picture: Callable[[], bytes]
    text: str

    def beside(self, bundle: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what ``_repr_mimebundle_`` of a widget gave, with picture and text."""
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        try:
            shown = {"image/png": b64encode(self.picture()).decode("ascii")}
        except Exception as error:  # whatever a store may raise: the widget still opens
            reason = printable(f"{type(error).__name__}: {error}", 200)
            return {**data, "text/plain": f"{self.text} (no picture: {reason})"}, metadata
        return {**data, "text/plain": self.text, **shown}, metadata
