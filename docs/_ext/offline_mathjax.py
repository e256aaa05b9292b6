"""Formulas without a network: MathJax lies beside the pages.

``sphinx-mathjax-offline`` brings all of MathJax, 24 MB of it. The pages need one script and its
fonts, which are copied into ``_static/mathjax``.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.fileutil import copy_asset

PACKAGE = "sphinx-mathjax-offline"  # the name of its module, too
SCRIPT = "tex-chtml-full.js"  # TeX as input, HTML as output, every TeX extension inside
FONTS = Path("output") / "chtml" / "fonts" / "woff-v2"


def mathjax_files() -> Path:
    """Folder of MathJax in the installed package."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ExtensionError(
            f'{PACKAGE} is missing, which brings MathJax: python -m pip install ".[docs]"'
        )
    return Path(spec.origin).parent / "static" / "mathjax"


def copy_mathjax(app: Sphinx, failure: Exception | None) -> None:
    """Put the script and its fonts beside the pages."""
    if failure is None and app.builder.format == "html":
        source, target = mathjax_files(), Path(app.outdir) / "_static" / "mathjax"
        copy_asset(str(source / SCRIPT), str(target))
        copy_asset(str(source / FONTS), str(target / FONTS))


def setup(app: Sphinx) -> dict[str, bool]:
    """Name the script before any page is written; copy it once all are."""
    mathjax_files()
    app.setup_extension("sphinx.ext.mathjax")
    app.connect("build-finished", copy_mathjax)
    app.config.mathjax_path = f"mathjax/{SCRIPT}"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
