"""Every error that miniplm raises on purpose.

    MiniPLMError
    ├── ConfigError             a recipe or an option is wrong; lists every fault found
    ├── DocumentError           text that cannot be read, or too much of it is bad
    ├── ArtefactError           a file of ours is damaged, missing or of another make
    │   └── StageNotReadyError  a stage was asked for before the ones it builds on
    ├── ModelError              a model or tokenizer cannot be loaded, built or used on this data
    ├── TrainingError           training cannot go on (a non-finite loss, a foreign checkpoint)
    ├── HubError                something must not go to the hub, or the hub does not take it
    └── StoppedError            a signal asked to stop; what was done is kept

A message says what was given, what was expected and what to do about it. The command line
prints the message without a traceback; any other exception is a bug.
"""

from collections.abc import Sequence

_LONGEST_REASON = 300


def reason_of(error: BaseException) -> str:
    r"""What an error of a library says, on one line, shortened, and without a full stop.

    Example:
        >>> reason_of(ValueError("it does not fit:\n   3 is not 4."))
        'it does not fit: 3 is not 4'
    """
    line = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 4]} ..."


class MiniPLMError(Exception):
    """Base of all errors that a user can act on."""


class ConfigError(MiniPLMError):
    """One or more faults in a recipe, all of them listed in `faults`."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.source = source
        self.faults = tuple(faults)
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        lines = "\n".join("  - " + fault.replace("\n", "\n    ") for fault in self.faults)
        super().__init__(f"{source}: {count}\n{lines}")


class DocumentError(MiniPLMError):
    """Documents cannot be read, or the share of bad ones is over the limit."""


class ArtefactError(MiniPLMError):
    """An artefact on disk is damaged, incomplete or belongs to other inputs."""


class StageNotReadyError(ArtefactError):
    """A stage was asked for although one it builds on is not complete."""


class ModelError(MiniPLMError):
    """A model or tokenizer cannot be loaded or built, or does not fit the data."""


class TrainingError(MiniPLMError):
    """Training stopped and cannot go on by itself."""


class HubError(MiniPLMError):
    """Files must not be published as they are, or the hub refuses them or is out of reach."""


class StoppedError(MiniPLMError):
    """A signal asked to stop, and all that was done is on disk."""
