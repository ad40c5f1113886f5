"""Write the page that puts runs side by side."""

import time
from collections.abc import Sequence
from pathlib import Path

from miniplm.errors import ArtefactError, ConfigError
from miniplm.manifest import write_atomically
from miniplm.report.compared_runs import ComparedRun, name_runs
from miniplm.report.comparison import compare
from miniplm.report.comparison_page import render_comparison
from miniplm.report.results import read_results


def compare_runs(folders: Sequence[Path], output: Path) -> Path:
    """Compare runs whose reports are made.

    Args:
        folders: Of the runs, the one that the others are compared with first.
        output: The page to write; one that is there is replaced.

    Returns:
        The page.

    Raises:
        ConfigError: There are fewer than two, or one twice.
        StageNotReadyError: A run has no report yet.
        ArtefactError: A report's results cannot be understood, or the page cannot be written.
    """
    resolved = [folder.resolve() for folder in folders]
    if len(resolved) < 2:
        raise ConfigError("report --compare", [f"takes two runs or more, given: {folders[0]}"])
    if len(set(resolved)) < len(resolved):
        raise ConfigError("report --compare", ["a run is given twice; name each run once"])
    runs = [
        ComparedRun(name, read_results(folder))
        for name, folder in zip(name_runs(folders), folders, strict=True)
    ]
    comparison = compare(runs, time.strftime("%Y-%m-%d %H:%M"))
    page = render_comparison(comparison)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, page)
    except OSError as error:
        raise ArtefactError(
            f"--output: {output} cannot be written ({error.strerror}); name another file"
        ) from error
    return output
