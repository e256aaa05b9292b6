"""Names of the interface in prose are links: `SystemIdentifier`, `metrics.align`, `IORNN.predict`.

The default role. What stands in single backticks is shown as code; if it is a public name, alone,
or with its module in front of it or one of its members behind it, it leads to its page; so does a
module, `gloree.metrics`.
"""

from __future__ import annotations

from importlib import import_module

from api_tiers import BLOCKS, STABLE, names
from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx import addnodes
from sphinx.application import Sphinx

PUBLIC = names(STABLE) | names(BLOCKS)
MODULES = {name.rpartition(".")[0] for name in PUBLIC}
LAST = {name.rpartition(".")[2]: name for name in PUBLIC}  # no two share a name (tests)


def target(text: str) -> str | None:
    """Full name of what a text names, or None."""
    if text in MODULES:
        return text
    parts = text.strip().removesuffix("()").split(".")
    if parts[0] == "gloree":
        parts = parts[1:]
    for i in range(min(2, len(parts))):  # a module may stand in front
        full = LAST.get(parts[i])
        if full is None or (i and full.split(".")[1] != parts[0]):
            continue
        module, _, name = full.rpartition(".")
        member = parts[i + 1 :]
        if not member:
            return full
        if len(member) == 1 and callable(
            getattr(getattr(import_module(module), name), member[0], None)
        ):
            return f"{full}.{member[0]}"
    return None


def name_role(
    role: str,
    rawtext: str,
    text: str,
    lineno: int,
    inliner: Inliner,
    options: object = None,
    content: object = None,
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Show the text as code, as a link where it is a name."""
    full = target(text)
    # as the role `code` shows it
    shown = nodes.literal(rawtext, text, classes=["code"])
    if full is None:
        return [shown], []
    link = addnodes.pending_xref(
        rawtext, shown, refdomain="py", reftype="obj", reftarget=full, refexplicit=True
    )
    link["refdoc"] = inliner.document.settings.env.docname
    return [link], []


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the role."""
    app.add_role("name", name_role)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
