"""Trackers: `metrics.jsonl` shown elsewhere, by name; none is required.

TensorBoard and Weights & Biases write below the run's folder, trackio to the one place where it
keeps all runs (`TRACKIO_DIR`; `trackio show --project miniplm`). Nothing is sent anywhere unless
the user's own environment says so: Weights & Biases writes offline runs (`wandb sync` sends them
later) unless `WANDB_MODE` or `WANDB_API_KEY` is set, trackio unless `TRACKIO_SPACE_ID` is.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from miniplm.errors import ConfigError

TrackerName = Literal["tensorboard", "wandb", "trackio"]
Record = dict[str, Any]
Log = Callable[[Record], None]
TRACKERS_FOLDER = "trackers"


def check_trackers(names: Sequence[TrackerName]) -> None:
    """Make sure, before any training, that the packages of these trackers are there.

    Raises:
        ConfigError: Names each package that is missing, and how to install it.
    """
    faults = [
        f"the tracker {name} needs the package {name}, which is not installed: "
        f"pip install 'miniplm[{name}]', or take it out of training.trackers"
        for name in names
        if not _is_installed(name)
    ]
    if faults:
        raise ConfigError("training.trackers", faults)


def _is_installed(package: str) -> bool:
    """Whether pip knows the package; a folder of that name, as wandb makes them, is none."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


@contextlib.contextmanager
def tracking(
    names: Sequence[TrackerName],
    folder: Path,
    *,
    run_name: str,
    settings: Mapping[str, Any],
    first_step: int,
    enabled: bool,
) -> Iterator[Log]:
    """A function that gives a record of `metrics.jsonl` to all of the trackers.

    Args:
        names: Which; none gives a function that does nothing.
        folder: Of the run; logs go to `trackers/<name>` in it, those of trackio to its own place.
        run_name: How the run is called where runs are compared.
        settings: What to show beside the curves.
        first_step: Of the records to come; what a tracker holds from there on, of a run that was
            killed, is dropped or drawn over.
        enabled: False on all processes but the main one.

    Raises:
        ConfigError: A package is missing.
    """
    check_trackers(names)
    with contextlib.ExitStack() as stack:
        logs = []
        for name in dict.fromkeys(names) if enabled else ():
            place = folder / TRACKERS_FOLDER / name
            logs.append(stack.enter_context(_OPEN[name](place, run_name, settings, first_step)))

        def log(record: Record) -> None:
            for write in logs:
                write(record)

        yield log


@contextlib.contextmanager
def _tensorboard(
    folder: Path, run_name: str, settings: Mapping[str, Any], first_step: int
) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    folder.mkdir(parents=True, exist_ok=True)
    with SummaryWriter(str(folder), purge_step=first_step or None) as writer:
        lines = "\n".join(f"    {name}: {value}" for name, value in settings.items())
        writer.add_text("settings", f"{run_name}\n\n{lines}", global_step=first_step)

        def log(record: Record) -> None:
            for name, value in _figures(record).items():
                writer.add_scalar(name, value, global_step=record["step"])
            writer.flush()

        yield log


@contextlib.contextmanager
def _wandb(
    folder: Path,
    run_name: str,
    settings: Mapping[str, Any],
    first_step: int,  # noqa: ARG001  (curves are drawn over `step`, which may come again)
) -> Iterator[Log]:
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project="miniplm",
        name=run_name,
        dir=str(folder),
        config=dict(settings),
        mode=wandb_mode(os.environ),
        settings=wandb.Settings(silent=True, console="off"),
    )
    with run:
        run.define_metric("*", step_metric="step")
        yield lambda record: run.log({"step": record["step"], **_figures(record)})


@contextlib.contextmanager
def _trackio(
    folder: Path,
    run_name: str,  # noqa: ARG001
    settings: Mapping[str, Any],
    first_step: int,
) -> Iterator[Log]:
    import trackio

    with contextlib.redirect_stdout(io.StringIO()):  # it prints in the middle of progress bars
        run = trackio.init(
            project="miniplm",
            name=str(folder.parents[1]),  # runs of all folders are side by side
            config=dict(settings),
            resume="allow" if first_step else "never",
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
    try:
        yield lambda record: run.log(_figures(record), step=record["step"])
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            trackio.finish()


def wandb_mode(environment: Mapping[str, str]) -> str:
    """How Weights & Biases works: as `WANDB_MODE` says, else offline unless there is a key.

    Example:
        >>> wandb_mode({}), wandb_mode({"WANDB_API_KEY": "..."})
        ('offline', 'online')
        >>> wandb_mode({"WANDB_API_KEY": "...", "WANDB_MODE": "offline"})
        'offline'
    """
    return environment.get("WANDB_MODE") or (
        "online" if environment.get("WANDB_API_KEY") else "offline"
    )


def _figures(record: Record) -> Record:
    """What can be drawn; the values of a mapping as `name/key`, which trackers show in a group."""
    figures: Record = {}
    for name, value in record.items():
        named = value if isinstance(value, Mapping) else {None: value}
        for key, each in named.items():
            if name != "step" and isinstance(each, int | float) and not isinstance(each, bool):
                figures[name if key is None else f"{name}/{key}"] = each
    return figures


_OPEN: dict[
    str, Callable[[Path, str, Mapping[str, Any], int], contextlib.AbstractContextManager[Log]]
] = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}
