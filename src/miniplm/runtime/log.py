"""The one logger of the package."""

import logging
import sys

logger = logging.getLogger("miniplm")


def configure_logging(*, verbose: bool = False, quiet: bool = False) -> None:
    """Send the package's messages to standard error, one line each, with the time.

    Args:
        verbose: Details too.
        quiet: Warnings only, as for all but the first of several processes.
    """
    if not any(getattr(handler, "from_miniplm", False) for handler in logger.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.from_miniplm = True  # type: ignore[attr-defined]
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        logger.addHandler(handler)
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logger.setLevel(level)
    logger.propagate = False
