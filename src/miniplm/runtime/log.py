"""The one logger of the package."""

import logging
import sys

logger = logging.getLogger("miniplm")


def configure_logging(*, verbose: bool = False) -> None:
    """Send the package's messages to standard error, one line each, with the time."""
    if not any(getattr(handler, "from_miniplm", False) for handler in logger.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.from_miniplm = True  # type: ignore[attr-defined]
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False
