"""How Sphinx makes the site: README.md as its front, docs/ behind it, docstrings as the reference.

`make docs` runs it. The pages stay plain Markdown that any viewer shows: the order of pages, which
such a viewer has no use for, is here. Nothing is fetched, neither now nor by who reads the site.
"""

from __future__ import annotations

import builtins
import shutil
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPOSITORY))

from docutils import nodes  # noqa: E402
from sphinx import addnodes  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

from tools.docstrings import to_restructured_text  # noqa: E402
from tools.site_pages import contents_of_decisions, contents_of_site  # noqa: E402

OURS = ("eris", "eris_fs", "kapla", "guix_glue")

project = "Kapla"
author = "The Kapla developers"
root_doc = "README"
include_patterns = ["README.md", "docs/**.md"]
exclude_patterns = ["build", "dist", ".*", "**/node_modules"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
# Without a lexer for what a console shows, code without a language is shown as it is.
highlight_language = "none"

nitpicky = True
# What is not ours has no page here, and the pages of others are not asked.
nitpick_ignore_regex = [
    (r"py:class", r".*\._\w+"),
    (r"py:.*", rf"(?!({'|'.join(OURS)})\.).*"),
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
html_title = "Kapla"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {"sidebar_hide_name": False}


def describe(
    app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Docstrings here are Markdown, with paragraphs that begin with `Raises:` or `Source:`."""
    lines[:] = to_restructured_text(lines)
    if isinstance(thing, type) and issubclass(thing, BaseException):
        kinds = ", ".join(f":py:exc:`{base.__name__}`" for base in thing.__bases__)
        lines += ["", f"**Is a**: {kinds}.", ""]


def arrange(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give the front page the order of all others."""
    if docname == root_doc:
        source[0] += contents_of_site(REPOSITORY)
    if docname == "docs/decisions/README":
        source[0] += contents_of_decisions()


def leave_built_in_types(app: Sphinx, doctree: nodes.document) -> None:
    """`bytes` in an annotation is Python's, and not an attribute of that name somewhere here."""
    for node in list(doctree.findall(addnodes.pending_xref)):
        target = node.get("reftarget", "")
        if node.get("refdomain") == "py" and hasattr(builtins, target):
            node.replace_self(nodes.inline("", target))


def find_by_name(app: Sphinx, env: Any, node: Any, content: nodes.Element) -> nodes.Element | None:
    """A class is documented where it is re-exported, and annotations say where it is made."""
    if node.get("refdomain") != "py":
        return None
    target = node.get("reftarget", "")
    if node.get("reftype") != "exc" and target.split(".")[0] not in OURS:
        return None
    last = target.rpartition(".")[2]
    domain = env.get_domain("py")
    found = [name for name in domain.objects if name.rpartition(".")[2] == last]
    same_package = [name for name in found if name.split(".")[0] == target.split(".")[0]]
    for name in (*same_package, *found):
        entry = domain.objects[name]
        return domain_reference(app, node, content, entry, name)
    return None


def domain_reference(
    app: Sphinx, node: Any, content: nodes.Element, entry: Any, name: str
) -> nodes.Element:
    """A link to what is documented as `name`."""
    from sphinx.util.nodes import make_refnode

    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, [content], name)


def finish(app: Sphinx, error: Exception | None) -> None:
    """The front page is also what a server gives for the directory."""
    if error is None and app.builder.name == "html":
        shutil.copyfile(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("autodoc-process-docstring", describe)
    app.connect("source-read", arrange)
    app.connect("doctree-read", leave_built_in_types)
    app.connect("missing-reference", find_by_name)
    app.connect("build-finished", finish)
