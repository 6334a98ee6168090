"""The command line: which command is asked for, and what is said when it cannot be done."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn
from urllib.parse import urlsplit

from ngff_xarray.commands.changing import CHANGING
from ngff_xarray.commands.command import NOT_FINE, WRONG_USE
from ngff_xarray.commands.looking import LOOKING
from ngff_xarray.errors import IncompleteError, MetadataError, NgffError, NotOmeError
from ngff_xarray.text import printable
from ngff_xarray.urls import is_url, without_secrets

_NAME = "ngff-xarray"
_ABOUT = (
    "Look at OME-Zarr images, check them, convert files of microscopes into them, and copy them. "
    'In Python, start with xarray.open_datatree("image.ome.zarr").ngff'
)
_CODES = (
    "In scripts: it exits with 0 where all is well, 1 where the store is broken, damaged or no "
    "OME-Zarr, and 2 where the command cannot be done as it was given."
)
_BROKEN = (MetadataError, NotOmeError, IncompleteError)
_INTERRUPTED = 130  # as shells have it
_MOST = 2000  # letters of an error


def main(given: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the user asks for, and exit.

    Parameters
    ----------
    given
        What stands behind the name of the program; by default that of this process.
    """
    words = list(sys.argv[1:] if given is None else given)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal may have no µ
    parser = _parser(words)
    if not words:
        parser.print_help()
        sys.exit(WRONG_USE)
    arguments = parser.parse_args(words)
    sys.exit(_run(arguments, words))


def _run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Run a command; return what to exit with."""
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads it has enough, as ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_FINE
    except KeyboardInterrupt:
        _say(f"{_NAME} {arguments.command}: interrupted", words)
        return _INTERRUPTED
    except (NgffError, OSError, ValueError, ImportError) as error:
        _say(f"{_NAME} {arguments.command}: {error or type(error).__name__}", words)
        return NOT_FINE if isinstance(error, _BROKEN) else WRONG_USE
    return code


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            _say(f"{self.prog}: {message} (see {self.prog} --help)", words)
            sys.exit(WRONG_USE)

    def made(text: str, examples: Sequence[str]) -> dict[str, object]:
        lines = "\n".join(f"  {_NAME} {line}" for line in examples)
        return {
            "description": text,
            "epilog": f"For example:\n{lines}\n\n{_CODES}",
            "formatter_class": _Formatter,
        }

    parser = Parser(prog=_NAME, **made(_ABOUT, ["demo", "info image.ome.zarr", "convert --help"]))  # type: ignore[arg-type]
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    for each in (*LOOKING, *CHANGING):
        about = f"{each.text[0].upper()}{each.text[1:]}. {each.more}"
        below = commands.add_parser(each.name, help=each.text, **made(about, each.examples))  # type: ignore[arg-type]
        each.add(below)
        below.set_defaults(run=each.run)
    return parser


class _Formatter(argparse.HelpFormatter):
    """Wraps the sentences of a help, and keeps its lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        parts = [part if "\n" in part else fill(part, width, indent) for part in text.split("\n\n")]
        return "\n\n".join(parts)


def _say(message: str, words: Sequence[str]) -> None:
    """Print a message to the user, in one line and without the secrets of what was typed."""
    print(printable(hidden(" ".join(message.split()), words), _MOST), file=sys.stderr)


def hidden(message: str, words: Sequence[str]) -> str:
    """Return a message without the secrets in the words that the user typed.

    Examples
    --------
    >>> url = "https://me:abcd@host/a.zarr?token=efgh"
    >>> hidden(f"no {url}, by efgh", ["info", url])
    'no https://host/a.zarr?…, by …'
    >>> hidden("key abcd is refused", ["--option", "secret=abcd"])
    'key … is refused'
    """
    for word in words:
        if is_url(word):
            message = message.replace(word, without_secrets(word))
    for secret in sorted(filter(None, _secrets(words)), key=len, reverse=True):
        message = message.replace(secret, "…")
    return message


def _secrets(words: Sequence[str]) -> list[str]:
    """Return the parts of what the user typed that nobody else is to see."""
    found: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if is_url(word):
            try:
                parts = urlsplit(word.rpartition("::")[2])
            except ValueError:
                continue
            found += [parts.netloc.rpartition("@")[0], parts.password or "", parts.query]
            found += [each.partition("=")[2] for each in parts.query.split("&")]
        elif before.endswith("option") or re.match(r"--[a-z-]*option=", word):
            found.append(word.rpartition("=")[2])
    return [each for each in found if len(each) > 3]  # shorter ones are in any text
