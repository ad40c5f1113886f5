"""The page's script: small files, each with one purpose, put one after the other in one scope."""

import base64
import hashlib
from functools import cache
from importlib import resources

from markupsafe import Markup

ORDER = (
    "dom", "figures", "theme", "anchors", "plot", "tip", "readout", "curves", "rows", "scatter",
    "examples", "cost", "start",
)  # fmt: skip


@cache
def page_script() -> Markup:
    """The text of the script."""
    folder = resources.files("miniplm.report")
    parts = [folder.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in ORDER]
    return Markup("\n".join(parts))  # noqa: S704  (our own files)


@cache
def script_source() -> str:
    """What a content security policy names this one script by, so that no other can run."""
    digest = hashlib.sha256(page_script().encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
