"""The description of a package: README.md without links that lead nowhere outside a checkout."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

IMAGE = re.compile(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n+(?:\*[^\n]+(?:\n[^\n]+)*\*\n+)?")
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)]+)\)")
COMMENT = re.compile(r"<!--.*?-->\n?")


class Readme(MetadataHookInterface):
    """Puts names of files in the place of relative links.

    Images that are files are left out, with the lines in italics below them.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the text to the metadata."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = COMMENT.sub("", IMAGE.sub("", text))
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": LINK.sub(r"\1 (`\2`)", text),
        }
