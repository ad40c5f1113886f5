"""What the page says of the models of a run, as plain data: figures, held-out text, curves.

Losses are in nats per token, means over tokens. FLOPs are counted from the shapes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["teacher", "reference", "student"]
Unit = Literal["nats per token", "bits per byte"]
NATS: Unit = "nats per token"
BITS: Unit = "bits per byte"


@dataclass(frozen=True)
class ModelRow:
    """A model of the run. Fields that are not known (a released teacher's tokens) are None.

    Loss and bits per byte are averages over the domains of the held-out text.
    """

    name: str
    role: Role
    origin: str
    """Where it comes from: `trained from scratch on the teacher split`, or a hub name."""
    num_params: int | None
    num_tokens_trained: int | None
    tokens_per_param: float | None
    held_out_loss: float | None
    bits_per_byte: float | None
    training_flops: float | None = None
    """A teacher in the loop included."""
    preparation_flops: float | None = None
    """Of what its data and its method build on: the reference's training, scoring, capturing,
    generating. The teacher's own training is not counted."""
    shared_preparation_flops: float | None = None
    """The same, with each part divided among the students that build on it."""
    training_seconds: float | None = None

    def figure(self, unit: Unit) -> float | None:
        """On held-out text, in a unit."""
        return self.held_out_loss if unit == NATS else self.bits_per_byte

    @property
    def total_flops(self) -> float | None:
        """Of training and of everything it builds on, as if it were the only student."""
        if self.training_flops is None:
            return None
        return self.training_flops + (self.preparation_flops or 0.0)

    @property
    def shared_flops(self) -> float | None:
        """Of training, and its part of what it shares with other students."""
        if self.training_flops is None:
            return None
        return self.training_flops + (self.shared_preparation_flops or 0.0)


@dataclass(frozen=True)
class HeldOutRow:
    """One domain (or the average over domains) for every model.

    `loss` and `bits_per_byte` map model names to values; `num_bytes` is the text they were
    measured on.
    """

    domain: str
    num_bytes: int
    loss: Mapping[str, float]
    bits_per_byte: Mapping[str, float]
    set_apart: bool = False
    """Whether it is left out of the average of domains."""
    documents_digest: str | None = None
    """Of the names of the documents, whatever the tokenizer; averages have none."""


@dataclass(frozen=True)
class CurvePoint:
    """A point of a training curve, with the step's learning rate."""

    step: int
    num_tokens: int
    flops: float
    loss: float
    lr: float = 1.0


@dataclass(frozen=True)
class TrainingCurves:
    """Curves of one trained model; `train` is smoothed for drawing, `held_out` is as measured.

    `unit` is that of `held_out`: bits per byte, a mean over domains, where they were logged.
    """

    model: str
    role: Role
    corpus: str
    train: Sequence[CurvePoint]
    held_out: Sequence[CurvePoint]
    unit: Unit = NATS


@dataclass(frozen=True)
class EqualLossRow:
    """Training compute that two students need for the same held-out loss, read off the curves."""

    student: str
    baseline: str
    loss: float
    """The loss compared at: the baseline's final held-out loss, or the student's where that is
    higher."""
    student_flops: float | None
    baseline_flops: float | None
    sentence: str
    """The finding in plain words, whichever way it went."""
    unit: Unit = NATS
    """Of the loss; bits per byte are means over domains."""
