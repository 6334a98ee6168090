"""Directives of the reference: ``.. ngff:: KIND`` and ``.. commands::``."""

from __future__ import annotations

import inspect
import io
import textwrap
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from functools import cache
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from doors import KINDS, behind, first_line, members, told
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, NumpyDocstring
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode

from ngff_xarray.commands.changing import CHANGING
from ngff_xarray.commands.line import main
from ngff_xarray.commands.looking import LOOKING

NAPOLEON = Config(napoleon_use_rtype=False, napoleon_use_param=False)


def described(kind: str) -> Iterator[str]:
    """Yield, in reStructuredText, a table of what a kind has, and each of it in full."""
    found = dict(sorted(members(kind).items(), key=_place))
    yield from (".. list-table::", "   :widths: 30 70", "")
    for name, member in found.items():
        yield f"   * - `{name} <{kind}.ngff.{name}>`"
        yield f"     - {first_line(member)}"
    yield ""
    for name, member in found.items():
        yield from described_one(f"{kind}.ngff.{name}", name, member)


def _place(named: tuple[str, Any]) -> tuple[bool, str]:
    """Return by what members are sorted: properties first, then by name."""
    return not isinstance(named[1], property), named[0]


def described_one(path: str, name: str, member: Any) -> Iterator[str]:
    """Yield one method or property in reStructuredText."""
    if isinstance(member, property):
        returned = inspect.signature(member.fget).return_annotation  # type: ignore[arg-type]  # ours have getters
        yield from (f".. py:property:: {path}", f"   :type: {returned}", "")
    else:
        signature = inspect.signature(member)
        unbound = signature.replace(parameters=list(signature.parameters.values())[1:])
        yield from (f".. py:method:: {path}{stringify_signature(unbound)}", "")
    text = str(NumpyDocstring(told(name, member), NAPOLEON))
    yield from textwrap.indent(text, "   ").splitlines()
    yield ""


class Accessors(SphinxDirective):
    """What ``.ngff`` of a kind of object has."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return what stands in its place."""
        lines = list(described(self.arguments[0]))
        return self.parse_text_to_nodes(StringList(lines, self.get_source_info()[0]))


class Commands(SphinxDirective):
    """What ``ngff-xarray COMMAND --help`` prints, for each."""

    def run(self) -> list[nodes.Node]:
        """Return what stands in its place."""
        return list(helped())


def helped() -> Iterator[nodes.Node]:
    """Yield a section for every command."""
    for command in (*LOOKING, *CHANGING):
        said = io.StringIO()
        with redirect_stdout(said), suppress(SystemExit):
            main([command.name, "--help"])
        section = nodes.section(ids=[command.name], names=[command.name])
        section += nodes.title(text=command.name)
        section += nodes.literal_block(text=said.getvalue(), language="text")
        yield section


def find(app: Sphinx, env: Any, node: nodes.Node, content: nodes.Node) -> nodes.Node | None:
    """Resolve names in docstrings: of functions behind the accessor, and those without a path."""
    last = node.get("reftarget", "").rpartition(".")[2]
    objects = env.get_domain("py").objects
    doors = [f"{kind}.ngff.{name}" for kind, name in _doors().get(last, [])]
    ends = [
        name for name in objects if name.startswith("ngff_xarray.") and name.endswith(f".{last}")
    ]
    for name in (f"ngff_xarray.{last}", *doors, *ends):
        if name in objects:
            entry = objects[name]
            at = node["refdoc"]
            return make_refnode(app.builder, at, entry.docname, entry.node_id, [content])
    return None


@cache
def _doors() -> dict[str, list[tuple[str, str]]]:
    """Return where each method is, by its name and that of the function behind it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for kind in KINDS:
        for name, member in members(kind).items():
            function = behind(name, member)
            for each in {name, function.__name__ if function else name}:
                found.setdefault(each, []).append((kind, name))
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("ngff", Accessors)
    app.add_directive("commands", Commands)
    app.connect("missing-reference", find)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
