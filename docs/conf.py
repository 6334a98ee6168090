"""Sphinx's settings: ``sphinx-build -W --keep-going docs build/docs``, as CI and Read the Docs do.

The notebooks are executed while the pages are made, so that readers see their pictures; a cell
that fails, or warns, fails the build. What did not change since is taken from a cache.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

import ngff_xarray

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

# of what kernels inherit: no bars, and matplotlib's pictures in the page
os.environ["TQDM_DISABLE"] = "1"
os.environ.pop("MPLBACKEND", None)

# Sphinx reads what lies below this folder only
shutil.rmtree(HERE / "notebooks", ignore_errors=True)
shutil.copytree(HERE.parent / "notebooks", HERE / "notebooks")

project = "ngff_xarray"
author = "The ngff_xarray developers"
project_copyright = author
version = release = ngff_xarray.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "reference_of",
]
exclude_patterns = ["build", "**/.ipynb_checkpoints"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE.parent / "build" / "executed")
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_output_stderr = "show"  # see below
nb_ipywidgets_js = {}  # from a CDN, and of no use without a kernel
# where a widget has a picture, that is what a page can show
nb_mime_priority_overrides = [
    ("html", "application/vnd.jupyter.widget-view+json", None),
]

default_role = "py:obj"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 72
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False
napoleon_use_ivar = True

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = "ngff_xarray"
html_show_sourcelink = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def said_aside(app: Sphinx, document: nodes.document) -> None:
    """Take what cells wrote to stderr out of the pages, and fail where it is a warning of Python's.

    Others log there what is no fault, such as distributed, of a worker that was slow to end.
    """
    for node in list(document.findall(nodes.literal_block)):
        if "stderr" in node["classes"]:
            if "Warning:" in node.astext():
                getLogger("notebooks").warning("a cell warns: %s", node.astext(), location=node)
            node.parent.remove(node)


def without_arguments(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    said: str | None,
    to: str | None,
) -> tuple[str, str | None] | None:
    """Leave out by what classes are made: nobody makes what methods return."""
    return ("", to) if what == "class" and said else None


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("doctree-read", said_aside)
    app.connect("autodoc-process-signature", without_arguments)
