"""Sphinx configuration. Build with ``sphinx-build -W -b html docs docs/_build/html``."""

import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

import matplotlib
from docutils import nodes
from sphinx.util import logging

sys.path.insert(0, str(Path(__file__).parent))
from api_tiers import BLOCKS, names

matplotlib.use("Agg")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "gloree"
author = "The gloree developers"
copyright = "2026, The gloree developers"
release = installed_version("gloree")
version = ".".join(release.split(".")[:2])

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "evidence",
    "names",
    "offline_mathjax",
    "thumbnails",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "auto_examples/*.ipynb", "auto_examples/*.py.md5"]
default_role = "name"
nitpicky = False
math_number_all = False
math_eqref_format = "({number})"
numfig = True  # equations are numbered by page of the theory, (3.2), so that no two are alike

# Formulas are set in the reader's browser by a script beside the pages (_ext/offline_mathjax.py).
mathjax3_config = {
    "tex": {
        "macros": {
            "E": r"\operatorname{E}",
            "Cov": r"\operatorname{Cov}",
            "Var": r"\operatorname{Var}",
            "sym": r"\operatorname{sym}",
            "vech": r"\operatorname{vech}",
            "diag": r"\operatorname{diag}",
            "tr": r"\operatorname{tr}",
            "He": r"\operatorname{He}",
            "norm": [r"\left\lVert #1 \right\rVert", 1],
            "R": r"\mathbb{R}",
            "ot": r"\otimes",
            "T": r"^{\mathsf T}",
        }
    }
}

# %% Reference pages: autosummary writes one page for each name listed in api.rst.
autosummary_generate = True
autosummary_ignore_module_all = False  # packages list their public names in __all__
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"  # "fit()" in the margin: the page is that of the class
autodoc_member_order = "bysource"
autoclass_content = "class"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False

# %% Gallery: every examples/plot_*.py is run, without arguments, and its output is shown. A script
# that reads a file named on the command line makes a small one for itself when none is named. Other
# scripts need data that are not here; the gallery leaves them out.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"[\\/]plot_",
    "ignore_pattern": r"(?:^|[\\/])(?!plot_)[^\\/]+\.py$",
    "within_subsection_order": "gallery_order.Order",
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "capture_repr": (),  # scripts print what is to be seen; a last line that draws prints no object
    "image_srcset": ["2x"],
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 0,
    "thumbnail_size": (640, 448),  # shown at half of it
    "plot_gallery": "True",
}

html_theme = "pydata_sphinx_theme"
html_title = f"gloree {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_theme_options = {
    "show_toc_level": 2,
    "show_nav_level": 1,
    "header_links_before_dropdown": 6,  # all of them: no menu "More"
    "navigation_with_keys": False,
    "secondary_sidebar_items": {"**": ["page-toc"], "paper_map": []},  # its tables are wide
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
html_copy_source = False
html_show_sourcelink = False


# %% Docstrings are written to be read in a terminal: |U| is a norm there and h_ a symbol, not a
# substitution or a link. Escape both in prose; leave directives, doctests and code as they are.
CODE = re.compile(r"(``.+?``|:[\w:]+:`[^`]+`|`[^`]+`_?)")
HEADING = re.compile(r"[\w, ]+ : |[-=~]+$")


def escape_symbols(app, what, name, obj, options, lines):
    """Escape vertical bars and final underscores in the prose of a docstring."""
    block = None  # indentation of the line that opened a directive or a literal block
    for i, line in enumerate(lines):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if not text:
            continue
        if block is not None:
            if indent > block:
                continue
            block = None
        if text.startswith((".. ", ">>>", "...")) or text.endswith("::"):
            block = indent if not text.startswith((">>>", "...")) else None
            continue
        parts = CODE.split(line)
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        if not HEADING.match(text):
            parts[::2] = [re.sub(r"(?<=\w)_(?!\w)", r"\_", part) for part in parts[::2]]
        lines[i] = "".join(parts)


# %% The paper map names tests as :pytest:`folder/file.py::name`; a name that does not exist warns.
TESTS = Path(__file__).parent.parent / "tests"


def pytest_role(role, rawtext, text, lineno, inliner, options=None, content=None):
    """Show the file and the name of a test, after looking it up."""
    file, _, name = text.partition("::")
    path = TESTS / file
    if not path.is_file() or f"def {name}(" not in path.read_text(encoding="utf-8"):
        place = (inliner.document.current_source, lineno)
        logging.getLogger(__name__).warning("no test %s", text, location=place)
    shown = name.removeprefix("test_").replace("_", " ")
    parts = [nodes.Text(f"{shown} ("), nodes.literal("", file), nodes.Text(")")]
    return [nodes.inline("", "", *parts, classes=["named-test"])], []


def skip_requests(app, what, name, obj, skip, options):
    """Leave out the methods that scikit-learn adds to every estimator for metadata routing."""
    return True if re.fullmatch(r"set_\w+_request|get_metadata_routing", name) else None


# %% Pages of building blocks say that they are building blocks.
BUILDING_BLOCKS = names(BLOCKS)
MARK = ["", "*A building block: it may change between minor versions (see* :doc:`/api` *).*", ""]


def mark_building_blocks(app, what, name, obj, options, lines):
    """Add the mark after the summary of a docstring."""
    if name in BUILDING_BLOCKS:
        start = next((i for i, line in enumerate(lines) if line.strip()), 0)
        end = lines.index("", start) if "" in lines[start:] else len(lines)
        lines[end:end] = MARK


def setup(app):
    """Register the above; the escape runs before numpydoc reads the docstrings, the mark after."""
    app.connect("autodoc-process-docstring", escape_symbols, priority=100)
    app.connect("autodoc-process-docstring", mark_building_blocks, priority=900)
    app.connect("autodoc-skip-member", skip_requests)
    app.add_role("pytest", pytest_role)
