"""The generate stage: the teacher continues prompts cut from token shards.

Each shard of prompts gives one shard of generated rows, in the same order and under the ids of the
rows that the prompts were cut from. A shard that is there is not made again if it says that it was
made from this shard, by this teacher, in this way.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.shards import SIDECAR_SCHEMA, Shard, is_made_from, open_shards, write_shard
from miniplm.errors import ArtefactError
from miniplm.export.exporter import SHARDS_FOLDER
from miniplm.generation.config import GenerationConfig, num_new_tokens
from miniplm.generation.cost import generation_cost
from miniplm.generation.teacher import Teacher
from miniplm.manifest import Outcome
from miniplm.model_checks import check_scorer
from miniplm.model_size import size_of
from miniplm.runtime.log import logger
from miniplm.runtime.progress import Advance, progress
from miniplm.scoring.preparation import prepare_model
from miniplm.scoring.scoring_model import ScoringModel

NEW_COLUMN = "num_generated"
"""Of the sidecar: how many of a row's ids the teacher made."""


def generate_corpus(
    scorer: ScoringModel,
    shards_folder: Path,
    token_num_bytes_V: NDArray[np.int64],
    config: GenerationConfig,
    folder: Path,
    seed: int,
) -> Outcome:
    """Write `folder/shards/data_N.*` for every shard of prompts; shards already there are kept.

    Rows are taken in order until the budget is met, so it is overshot by less than a row. What is
    drawn for a row depends on seed and sequence id: another batch size gives the same text, but
    where rounding in the model decides between two tokens.

    Args:
        scorer: The teacher, on the device it is to run on.
        shards_folder: Token shards that prompts are cut from.
        token_num_bytes_V: Bytes of text that each id stands for, `[V]`.
        config: Lengths, sampling and budget.
        folder: Where the generated shards go.
        seed: Of the sampling.

    Raises:
        ConfigError: Prompt and continuation are longer than a row.
        ModelError: The teacher's vocabulary or length is smaller than that of the shards, its
            logits are not those of its output layer, or they are not finite.
        ArtefactError: A shard is damaged, or no row is long enough for a prompt.
    """
    shards = open_shards(shards_folder)
    num_new = num_new_tokens(
        config.prompt_tokens, config.new_tokens, shards[0].info.max_length, "generation"
    )
    info = shards[0].info
    check_scorer(scorer.model, info.vocab_size, info.max_length, scorer.name)
    prepare_model(scorer.model)
    teacher = Teacher(scorer, config, num_new, seed)
    places = [np.flatnonzero(shard.lengths >= config.prompt_tokens) for shard in shards]
    num_rows, num_prompts = sum(len(shard) for shard in shards), sum(map(len, places))
    if num_prompts == 0:
        raise ArtefactError(
            f"{shards_folder}: none of its {num_rows:,} rows has the {config.prompt_tokens} ids "
            "of a prompt, so nothing was generated. Lower generation.prompt_tokens."
        )
    wanted = min(config.tokens or num_prompts * num_new, num_prompts * num_new)
    counted = _Counted()
    with progress(f"generate with {scorer.name}", wanted, "tokens") as advance:
        for shard, some in zip(shards, places, strict=True):
            left = None if config.tokens is None else config.tokens - counted.num_tokens
            target = folder / SHARDS_FOLDER / shard.prefix.name
            _make_shard(teacher, shard, some, left, token_num_bytes_V, target, advance)
            counted.add(Shard(target))
    if config.tokens and counted.num_tokens < config.tokens:
        logger.warning(
            "the %d prompts gave %d tokens of the %d asked for (generation.tokens)",
            num_prompts, counted.num_tokens, config.tokens,
        )  # fmt: skip
    return _outcome(teacher, counted, num_rows, num_prompts)


def _make_shard(
    teacher: Teacher,
    shard: Shard,
    places: NDArray[np.int64],
    left: int | None,
    token_num_bytes_V: NDArray[np.int64],
    target: Path,
    advance: Advance,
) -> None:
    """Write the generated shard of a shard of prompts, unless it is there."""
    origin = teacher.origin(shard, left)
    if is_made_from(target, origin):
        advance(sum(Shard(target).sidecar[NEW_COLUMN].to_numpy()))
        return
    made = teacher.continuations(shard, places, left, advance)
    places = places[: len(made)]
    skipped = 0 if teacher.config.keep_prompt else teacher.config.prompt_tokens - 1
    rows = [
        np.concatenate([shard.row(int(place))[skipped : teacher.config.prompt_tokens], new])
        for place, new in zip(places, made, strict=True)
    ]
    write_shard(
        target,
        rows,
        _sidecar(shard, places, rows, made, token_num_bytes_V),
        vocab_size=shard.info.vocab_size,
        eos_id=shard.info.eos_id,
        max_length=shard.info.max_length,
        origin=origin,
    )


def _sidecar(
    shard: Shard,
    places: NDArray[np.int64],
    rows: Sequence[NDArray[np.int64]],
    made: Sequence[NDArray[np.int64]],
    token_num_bytes_V: NDArray[np.int64],
) -> pa.Table:
    """Ids, domains and sources of the prompts' rows, with the counts of the generated ones."""
    table = shard.sidecar.select(SIDECAR_SCHEMA.names).take(places)
    counts = {
        "num_tokens": pa.array([len(row) for row in rows], pa.int32()),
        "num_bytes": pa.array([int(token_num_bytes_V[row].sum()) for row in rows], pa.int64()),
    }
    for name, values in counts.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return table.append_column(NEW_COLUMN, pa.array([len(new) for new in made], pa.int32()))


class _Counted:
    """Sums over the generated shards, those of earlier tries included."""

    def __init__(self) -> None:
        self.num_rows = self.num_tokens = self.num_ended = 0
        self.new_tokens: list[NDArray[np.int32]] = []

    def add(self, shard: Shard) -> None:
        """Count a shard's rows; one that ends with end-of-text ended by itself."""
        new = shard.sidecar[NEW_COLUMN].to_numpy()
        self.new_tokens.append(new)
        self.num_rows += len(shard)
        self.num_tokens += int(new.sum())
        self.num_ended += int((shard.ids[shard.ends - 1] == shard.info.eos_id).sum())


def _outcome(teacher: Teacher, counted: _Counted, num_rows: int, num_prompts: int) -> Outcome:
    cost = generation_cost(size_of(teacher.scorer.model, 0))
    facts = {
        "mean_new_tokens": counted.num_tokens / counted.num_rows,
        "share_ended": counted.num_ended / counted.num_rows,
        "batch_size": teacher.batch_size,
    }
    if teacher.seconds:
        facts["tokens_per_second"] = teacher.num_tokens / teacher.seconds
    return Outcome(
        counts={
            "sequences": counted.num_rows,
            "dropped": {
                "shorter_than_a_prompt": num_rows - num_prompts,
                "after_the_budget": num_prompts - counted.num_rows,
            },
        },
        num_tokens=counted.num_tokens,
        flops=cost.flops(teacher.config.prompt_tokens, np.concatenate(counted.new_tokens)),
        facts=facts,
    )
