"""What a model is trained on: from folders of the run to a feed of micro-batches."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from miniplm.data.loader import SequenceStore
from miniplm.data.order import EpochOrder, MixedOrder
from miniplm.data.shards import open_shards
from miniplm.data.tokenizer import load_tokenizer, token_table
from miniplm.errors import ArtefactError, ConfigError
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.training.captured import Captured
from miniplm.training.compute import new_tokens
from miniplm.training.config import TrainingConfig
from miniplm.training.corpus_order import corpus_order, has_order_of_its_own, order_without
from miniplm.training.feed import Feed, Supplements, Writing
from miniplm.training.held_out import HeldOut
from miniplm.training.reweighting import repeated, static_weights
from miniplm.training.scores import Role, ScoreTables


@dataclass(frozen=True)
class TrainInputs:
    """What a model is trained on.

    Args:
        corpora: Folders of token shards with the share that each has in training.
        corpus: What they are, in a few words, for the model card.
        tokenizer: Folder of their tokenizer.
        held_out: Folder of held-out token shards, for the losses along the way.
        held_out_sequences: How many of them are used.
        scores: Score tables of the corpus, for reweighting.
        captured: Folder of the teacher's stored distributions, for sparse KD.
        teacher: Loads the teacher, for vanilla KD and MiniLLM.
        leave_out: Domains (globs) of a single corpus that are not trained on.
    """

    corpora: Mapping[Path, float]
    corpus: str
    tokenizer: Path
    held_out: Path | None = None
    held_out_sequences: int = 64
    scores: ScoreTables | None = None
    captured: Path | None = None
    teacher: Callable[[], ScoringModel] | None = field(default=None, repr=False)
    leave_out: tuple[str, ...] = ()

    def held_out_losses(self) -> HeldOut | None:
        """The held-out sequences for the losses along the way, if there are any."""
        if self.held_out is None or not self.held_out.exists():
            return None
        store = SequenceStore(open_shards(self.held_out))
        table = token_table(load_tokenizer(self.tokenizer))
        return HeldOut(store, self.held_out_sequences, table.num_bytes_V)


def make_feed(inputs: TrainInputs, training: TrainingConfig, seed: int) -> Feed:
    """The sequences of a training, their order, and what goes with them.

    Raises:
        ArtefactError: There is nothing to train on, or something is missing or damaged.
        ConfigError: The method takes something that is not given, or asks for longer rows than
            there are.
    """
    folders = list(inputs.corpora)
    shards = [open_shards(folder) for folder in folders]
    store = SequenceStore([shard for group in shards for shard in group])
    if len(store) == 0:
        raise ArtefactError(f"{folders[0]}: its token shards hold no sequence to train on")
    if len(folders) > 1:
        return _mixed_feed(
            store, inputs, training, [sum(map(len, group)) for group in shards], seed
        )
    supplements = _supplements(store, inputs, training, seed)
    if inputs.leave_out:
        return Feed(store, order_without(store, inputs.leave_out, seed), supplements)
    if training.reweighting.kind != "repeats":
        return Feed(store, corpus_order(store, seed), supplements)
    if has_order_of_its_own(store):
        raise ConfigError(
            "training.reweighting",
            [
                f"repeats says how often sequences come, and so does the selection of "
                f"{inputs.corpus}; use one of them"
            ],
        )
    weights_M = supplements.weights_M
    assert weights_M is not None
    drawn = lru_cache(maxsize=2)(lambda epoch: repeated(weights_M, seed, epoch))
    supplements = replace(supplements, weights_M=None)  # they are in the order now
    return Feed(store, EpochOrder(len(store), seed, drawn), supplements)


def origins(inputs: TrainInputs, training: TrainingConfig, feed: Feed) -> dict[str, Any]:
    """Where the scores and captures that a training takes come from, as JSON values.

    Raises:
        ArtefactError: Score tables are missing or damaged, or come from different models.
    """
    found: dict[str, Any] = {}
    if feed.supplements.captured is not None:
        found["capture"] = asdict(feed.supplements.captured.info.origin)
    kind, scores = training.reweighting.kind, inputs.scores
    if kind != "none" and scores is not None:
        roles: tuple[Role, ...] = ("teacher", "reference")
        if kind in ("dynamic", "dynamic_tokens"):
            roles = ("teacher",)  # the student takes the reference's place
        found["scores"] = {role: asdict(scores.origin(feed.store, role)) for role in roles}
        found["scores"]["normalization"] = scores.normalization
    return found


def _mixed_feed(
    store: SequenceStore,
    inputs: TrainInputs,
    training: TrainingConfig,
    sizes: list[int],
    seed: int,
) -> Feed:
    """Several corpora, of so many sequences each."""
    if 0 in sizes:
        empty = list(inputs.corpora)[sizes.index(0)]
        raise ArtefactError(f"{empty}: its token shards hold no sequence to train on")
    if training.method == "sparse_kd" or training.reweighting.kind != "none":
        raise ConfigError(
            "training",
            [
                "sparse_kd and reweighting go by what is stored beside one corpus; "
                f"{len(sizes)} are given"
            ],
        )
    if inputs.leave_out:
        raise ConfigError("leave_out", ["takes domains out of one corpus; several are given"])
    if has_order_of_its_own(store):
        raise ConfigError(
            "training",
            [
                f"of {inputs.corpus}, one is drawn with replacement or narrows in training; such "
                "a corpus cannot be mixed with others"
            ],
        )
    supplements = Supplements(writing=_writing(store, training, seed))
    return Feed(store, MixedOrder(sizes, list(inputs.corpora.values()), seed), supplements)


def _writing(store: SequenceStore, training: TrainingConfig, seed: int) -> Writing | None:
    if training.method != "minillm":
        return None
    num_new = new_tokens(training, store.max_length)
    return Writing(training.on_policy.prompt_tokens, num_new, seed)


def _supplements(
    store: SequenceStore, inputs: TrainInputs, training: TrainingConfig, seed: int
) -> Supplements:
    if training.method == "minillm":
        return Supplements(writing=_writing(store, training, seed))
    captured = None
    if training.method == "sparse_kd":
        if inputs.captured is None:
            raise ConfigError("training.capture", ["sparse_kd needs a capture; none is given"])
        captured = Captured(inputs.captured, store.shards)
    reweighting, scores = training.reweighting, inputs.scores
    if reweighting.kind == "none":
        return Supplements(captured=captured)
    if scores is None:
        raise ConfigError(
            "training.reweighting", [f"{reweighting.kind} needs score tables; none are given"]
        )
    if reweighting.kind in ("static", "repeats"):
        weights_M = static_weights(
            scores.differences(store), reweighting.temperature, reweighting.clip
        )
        return Supplements(weights_M=weights_M, captured=captured)
    scores.refuse_predicted(store, reweighting.kind)
    if reweighting.kind == "dynamic":
        num_units_M = None
        if reweighting.normalization == "per_byte":
            # the student's own targets: it may have other tokens than the teacher
            table = token_table(load_tokenizer(inputs.tokenizer))
            num_units_M = store.num_scored_bytes(table.num_bytes_V).astype(np.float64)
        return Supplements(
            teacher_losses_M=scores.losses(store, "teacher"),
            num_units_M=num_units_M,
            captured=captured,
        )
    return Supplements(token_losses=scores.token_losses(store), captured=captured)
