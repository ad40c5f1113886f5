"""The teacher's scores for a fraction of the price: it scores a few sequences, a proxy the rest.

The reference scores everything. The teacher scores a share of the sequences, chosen by hash. On
most of these a linear head is fit that predicts the difference score (the teacher's log-probability
less the reference's, per token) from what is cheap to have of a sequence; on the others it is
measured. What comes out are ordinary score tables: the teacher's own scores where there are any,
elsewhere the reference's log-probability plus the predicted difference.

Where teacher and reference count tokens of different tokenizers, differences are per byte.

Axes: R rows, F features.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.shards import Shard, open_shards
from miniplm.errors import ArtefactError
from miniplm.manifest import Outcome, fingerprint, read_manifest
from miniplm.runtime.progress import progress
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.proxy_features import features_per_row
from miniplm.scoring.proxy_head import Head, fit_head
from miniplm.scoring.proxy_held_out import HELD_OUT_NAME, HeldOut
from miniplm.scoring.proxy_inputs import ProxyInputs
from miniplm.scoring.proxy_sample import SampleChoice, score_sample
from miniplm.scoring.proxy_words import log_proxy
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.scoring.shard_scorer import ShardScorer
from miniplm.scoring.tables import (
    PER_BYTE,
    PREDICTED_FIELD,
    SCORE_SCHEMA,
    ScoreInfo,
    is_scored,
    score_info,
    write_scores,
)

HELD_OUT_SHARE = 0.2
"""Of the sampled sequences, for measuring."""
LEAST_FITTED = 40
LEAST_HELD_OUT = 10


def score_by_proxy(
    teacher: ScoringModel,
    shards_folder: Path,
    reference_folder: Path,
    token_num_bytes_V: NDArray[np.int64],
    config: ScoringConfig,
    seed: int,
    folder: Path,
    sample_folder: Path,
) -> Outcome:
    """Write `folder/data_N.parquet` for every token shard, and `folder/held_out.parquet`.

    Args:
        teacher: On the device it is to run on.
        shards_folder: The candidates' token shards.
        reference_folder: The reference's score tables of them; with states for `hidden`.
        token_num_bytes_V: Bytes of text that each id stands for, `[V]`.
        config: Limits, and `config.proxy`.
        seed: Of the choice of sequences.
        folder: Where the tables go.
        sample_folder: Where the teacher's own scores are kept, whatever the share: of this
            teacher and these shards.

    Raises:
        ModelError: As `scoring.scorer.score_shards`.
        ArtefactError: A shard or a table of the reference is damaged or lacks what the proxy
            needs, or the sample is too small to fit on.
    """
    assert config.proxy is not None
    shards = open_shards(shards_folder)
    choice = SampleChoice(config.proxy.share, seed, HELD_OUT_SHARE)
    work = ShardScorer(teacher, shards, token_num_bytes_V, config, config.proxy.share)
    inputs = ProxyInputs(config.proxy, shards, choice, reference_folder, sample_folder)
    score_sample(work, shards, choice, sample_folder)
    started = time.monotonic()
    unit = inputs.unit()
    head, held_out = fit_proxy(inputs, unit)
    held_out.write(folder / HELD_OUT_NAME)
    facts = {**held_out.facts(), "fit_seconds": round(time.monotonic() - started, 1)}
    described = _described(inputs, head, facts)
    with progress("predict scores", len(shards), "shards") as advance:
        for shard in shards:
            path = folder / f"{shard.prefix.name}.parquet"
            info = _info(work.info(shard), described, unit)
            if not is_scored(path, info):
                write_scores(path, predicted_table(inputs, head, shard, unit), info)
            advance(1)
    outcome = _outcome(inputs, head, work, facts)
    log_proxy(outcome.counts, outcome.facts["proxy"], held_out, config.proxy)
    return outcome


def fit_proxy(inputs: ProxyInputs, unit: str) -> tuple[Head, HeldOut]:
    """Fit a head on most sampled rows, and predict the others.

    Args:
        inputs: The sample is complete.
        unit: What differences are per: `token` or `byte`.

    Returns:
        The head, and the rows it was not fit on, with its predictions.

    Raises:
        ArtefactError: There are too few rows.
    """
    rows = inputs.sampled(unit)
    is_held_out = inputs.choice.is_held_out(rows.sequence_ids)
    fitted = rows.take(np.flatnonzero(~is_held_out))
    measured = rows.take(np.flatnonzero(is_held_out))
    found = (len(fitted.sequence_ids), len(measured.sequence_ids))
    if found[0] < LEAST_FITTED or found[1] < LEAST_HELD_OUT:
        raise ArtefactError(
            f"{inputs.sample_folder}: {found[0]} sequences to fit a proxy on and {found[1]} to "
            f"measure it with are too few (at least {LEAST_FITTED} and {LEAST_HELD_OUT}). Raise "
            f"scoring.proxy.share (now {inputs.config.share:g}), or score everything "
            "(scoring.proxy=null)."
        )
    head = fit_head(fitted.features_RF, fitted.difference_R)
    domains, numbers = np.unique(measured.domains_R, return_inverse=True)
    held_out = HeldOut(
        sequence_ids=measured.sequence_ids,
        domains=tuple(domains.tolist()),
        domain_numbers_R=numbers.astype(np.int32),
        true_R=measured.difference_R,
        predicted_R=head.predict(measured.features_RF),
        num_tokens_R=measured.num_tokens_R,
        num_bytes_R=measured.num_bytes_R,
        unit=unit,
        reference_R=measured.reference_R,
    )
    return head, held_out


def predicted_table(inputs: ProxyInputs, head: Head, shard: Shard, unit: str) -> pa.Table:
    """The score table of a shard: true where the teacher scored, predicted elsewhere."""
    tables = []
    for reference, features_RF in inputs.blocks(shard):
        added_R = head.predict(features_RF) * reference[f"num_{unit}s"].to_numpy()
        log_prob_R = pa.array(reference["log_prob"].to_numpy() + added_R)
        table = reference.select(SCORE_SCHEMA.names)
        tables.append(table.set_column(1, SCORE_SCHEMA.field("log_prob"), log_prob_R))
    whole = pa.concat_tables([SCORE_SCHEMA.empty_table(), *tables])
    true, places = inputs.true_scores(shard)
    arrays = {name: np.array(whole[name].to_numpy()) for name in SCORE_SCHEMA.names}
    for name in SCORE_SCHEMA.names[1:]:
        arrays[name][places] = true[name].to_numpy()
    predicted = np.ones(len(shard), dtype=np.bool_)
    predicted[places] = False
    whole = pa.Table.from_pydict(arrays, schema=SCORE_SCHEMA)
    return whole.append_column(PREDICTED_FIELD, pa.array(predicted))


def _described(inputs: ProxyInputs, head: Head, facts: dict[str, Any]) -> dict[str, Any]:
    """What tables say of the proxy: where it comes from, and how well it predicts."""
    weights = head.weights_F.astype(np.float32).tobytes().hex()
    return {
        "features": inputs.config.features,
        "share": inputs.config.share,
        "teacher": score_info(inputs.sample(inputs.shards[0])).model_fingerprint,
        "reference": score_info(inputs.reference(inputs.shards[0])).model_fingerprint,
        "head": fingerprint([weights, head.intercept]),
        "held_out": facts["held_out"],
        "spearman": facts["spearman"]["value"],
        "agreement": facts["agreement"]["value"],
        "agreement_within_domains": facts["agreement_within_domains"]["value"],
    }


def _info(true: ScoreInfo, described: dict[str, Any], unit: str) -> ScoreInfo:
    """What a table says of itself; its scores follow from all that is described."""
    return replace(
        true,
        model_fingerprint=fingerprint(described),
        normalization=PER_BYTE if unit == "byte" else None,
        proxy=described,
    )


def _outcome(inputs: ProxyInputs, head: Head, work: ShardScorer, facts: dict[str, Any]) -> Outcome:
    """What was done, and what scoring everything would have taken."""
    num_rows = sum(len(shard) for shard in inputs.shards)
    num_sampled, num_tokens, positions = 0, 0, 0.0
    for shard in inputs.shards:
        file, (true, places) = inputs.sample(shard), inputs.true_scores(shard)
        num_sampled += len(places)
        num_tokens += int(true["num_tokens"].to_numpy().sum())
        positions += file.origin["positions"] * len(places) / max(1, file.num_rows)
    reference = read_manifest(inputs.reference_folder)
    teacher_flops = positions * work.flops_per_token
    ids_per_row = sum(shard.num_ids for shard in inputs.shards) / max(1, num_rows)
    width = len(head.weights_F) - 1
    multiplied = features_per_row(inputs.config.features, width, ids_per_row)
    head_flops = 2.0 * multiplied * (num_rows - num_sampled)
    flops = {
        "teacher": teacher_flops,
        "head": head_flops,
        "reference": reference.flops if reference else None,
        "teacher_on_everything": teacher_flops * num_rows / max(1, num_sampled),
    }
    return Outcome(
        counts={
            "sequences": num_rows,
            "scored": num_sampled,
            "predicted": num_rows - num_sampled,
        },
        num_tokens=num_tokens,
        flops=teacher_flops + head_flops,
        facts={
            "proxy": {
                "features": inputs.config.features,
                "share": inputs.config.share,
                "penalty": head.penalty,
                **facts,
                "flops": flops,
            }
        },
    )
