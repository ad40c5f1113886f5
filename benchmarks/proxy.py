"""`python -m benchmarks.proxy RUN_DIR`: how well a proxy would have predicted a run's scores.

The run has to be finished, with every sequence scored by teacher and reference. Samples are taken
of the teacher's scores, heads are fit on them, and predictions are compared with the teacher's own
scores of all sequences that were not sampled. Nothing is written into the run.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import yaml

from benchmarks.calibration_figures import share_between
from miniplm.data.shards import Shard, open_shards
from miniplm.data.tokenizer import load_tokenizer, token_table
from miniplm.manifest import read_manifest
from miniplm.model import load_model
from miniplm.scoring.agreement import agreement_within, bootstrap, selection_agreement, spearman
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.proxy import HELD_OUT_SHARE, fit_proxy
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.scoring.proxy_inputs import ProxyInputs
from miniplm.scoring.proxy_sample import SampleChoice
from miniplm.scoring.scorer import score_shards
from miniplm.scoring.scoring_model import ScoringModel
from miniplm.scoring.tables import SCORE_SCHEMA, open_scores, read_scores, score_info, write_scores

RATIOS = (0.5, 0.25)
CANDIDATES = "tokenize/candidates"


@dataclass(frozen=True)
class Truth:
    """What the run knows of all candidates.

    Args:
        difference_R: True difference scores, nats per token, in the order of shards.
        groups_R: Number of each row's domain.
        domains: Their names.
    """

    difference_R: np.ndarray
    groups_R: np.ndarray
    domains: list[str]


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--share", "shares", multiple=True, type=float, default=(0.02, 0.05, 0.1))
@click.option("--features", multiple=True, type=click.Choice(["hidden", "ngrams"]))
@click.option("--head", "heads", multiple=True, type=click.Choice(["linear", "mlp", "boosted"]))
@click.option("--domains", is_flag=True, help="Also a line for each domain.")
@click.option("--work", type=click.Path(path_type=Path), help="Keeps the reference's states.")
def main(
    run_dir: Path,
    shares: Sequence[float],
    features: Sequence[str],
    heads: Sequence[str],
    domains: bool,
    work: Path | None,
) -> None:
    """Compare shares, features and heads of a proxy on the scores of a finished run."""
    shards = open_shards(run_dir / CANDIDATES)
    truth = _truth(run_dir, shards)
    between = share_between(truth.difference_R, truth.groups_R)
    click.echo(
        f"{len(truth.difference_R):,} sequences, {len(truth.domains)} domains, share of the "
        f"score's variance between domains {between:.2f}"
    )
    with tempfile.TemporaryDirectory(prefix="miniplm-proxy-") as temporary:
        folder = work or Path(temporary)
        reference = _with_states(run_dir, folder / "reference")
        for share in shares:
            sample = Path(temporary) / f"sample-{share}"
            choice = SampleChoice(share, 1234, HELD_OUT_SHARE)
            _write_sample(run_dir, shards, choice, sample)
            _study_domains(shards, choice, truth)
            for kind in features or ("hidden", "ngrams"):
                config = ProxyConfig(share=share, features=kind)
                inputs = ProxyInputs(config, shards, choice, reference, sample)
                for head in heads or ("linear",):
                    _study(run_dir, inputs, truth, head, domains)


def _truth(run_dir: Path, shards: Sequence[Shard]) -> Truth:
    difference, names = [], []
    for shard in shards:
        name = f"{shard.prefix.name}.parquet"
        tables = [
            read_scores(run_dir / "score" / role / name, shard.info.shard_hash)
            for role in ("teacher", "reference")
        ]
        with np.errstate(invalid="ignore"):  # rows without a target
            teacher, reference = (
                table["log_prob"].to_numpy() / table["num_tokens"].to_numpy() for table in tables
            )
        difference.append(teacher - reference)
        names += shard.sidecar["domain"].to_pylist()
    domains, groups_R = np.unique(names, return_inverse=True)
    return Truth(np.concatenate(difference), groups_R, domains.tolist())


def _with_states(run_dir: Path, folder: Path) -> Path:
    """The reference's scores with hidden states: the run's own, or scored again."""
    if score_info(_table(run_dir / "score/reference")).states:
        return run_dir / "score/reference"
    recipe = yaml.safe_load((run_dir / "used_recipe.yaml").read_text())
    dtype = (recipe.get("scoring") or {}).get("dtype", "bfloat16")
    manifest = read_manifest(run_dir / "train/reference")
    assert manifest is not None
    model = load_model(run_dir / "train/reference/model", dtype=dtype)
    num_bytes_V = token_table(load_tokenizer(run_dir / "tokenize/tokenizer")).num_bytes_V
    started = time.monotonic()
    scorer = ScoringModel(model, "reference", manifest.fingerprint, dtype)
    config = ScoringConfig(dtype=dtype)
    score_shards(scorer, run_dir / CANDIDATES, num_bytes_V, config, folder, states=True)
    click.echo(f"reference with states: {time.monotonic() - started:.1f} s")
    return folder


def _table(folder: Path):
    from miniplm.data.parquet import ColumnFile

    return ColumnFile(folder / "data_0.parquet")


def _write_sample(
    run_dir: Path, shards: Sequence[Shard], choice: SampleChoice, folder: Path
) -> None:
    for shard in shards:
        name = f"{shard.prefix.name}.parquet"
        file = open_scores(run_dir / "score/teacher" / name, shard.info.shard_hash)
        rows = np.flatnonzero(choice.sampled(shard.sequence_ids))
        table = file.table(SCORE_SCHEMA.names).take(pa.array(rows))
        write_scores(folder / name, table, score_info(file), {"positions": 0})


def _study_domains(shards: Sequence[Shard], choice: SampleChoice, truth: Truth) -> None:
    """What knowing nothing but the domain of a sequence gives."""
    sampled_R = np.concatenate([choice.sampled(shard.sequence_ids) for shard in shards])
    known = np.isfinite(truth.difference_R)
    here = sampled_R & known
    means = np.bincount(truth.groups_R[here], truth.difference_R[here], len(truth.domains))
    means /= np.maximum(np.bincount(truth.groups_R[here], minlength=len(truth.domains)), 1)
    rest = known & ~sampled_R
    true, predicted = truth.difference_R[rest], means[truth.groups_R[rest]]
    click.echo(
        f"\nshare {choice.share:.0%}, the domain's mean: spearman {spearman(true, predicted):.1%}, "
        f"agreement at 0.5 {selection_agreement(true, predicted):.1%}"
    )


def _study(run_dir: Path, inputs: ProxyInputs, truth: Truth, head: str, by_domain: bool) -> None:
    started = time.monotonic()
    if head == "linear":
        fitted, held_out = fit_proxy(inputs, "token")
        predict = fitted.predict
        estimates = [held_out.ranked(within_domains=inside).agreement() for inside in (False, True)]
        found = f"penalty {fitted.penalty:g}"
    else:
        predict, estimates, found = _other_head(inputs, head), [], ""
    fit_seconds = time.monotonic() - started
    started = time.monotonic()
    predicted_R = np.concatenate(
        [predict(matrix) for shard in inputs.shards for _, matrix in inputs.blocks(shard)]
    )
    predict_seconds = time.monotonic() - started
    sampled_R = np.concatenate(
        [inputs.choice.sampled(shard.sequence_ids) for shard in inputs.shards]
    )
    rest = ~sampled_R & np.isfinite(truth.difference_R) & np.isfinite(predicted_R)
    true, predicted, groups = (
        values[rest] for values in (truth.difference_R, predicted_R, truth.groups_R)
    )
    click.echo(
        f"\nshare {inputs.config.share:.0%}, {inputs.config.features}, {head} "
        f"({int(sampled_R.sum()):,} sampled; {found}; fit {fit_seconds:.1f} s, "
        f"predict {predict_seconds:.1f} s)"
    )
    click.echo(f"  spearman {bootstrap(spearman, [true, predicted], 0)}")
    for ratio in RATIOS:
        across = bootstrap(partial(selection_agreement, ratio=ratio), [true, predicted], 0)
        within = bootstrap(partial(agreement_within, ratio=ratio), [true, predicted, groups], 0)
        click.echo(f"  agreement at {ratio:g}: {across}; within domains {within}")
    if estimates:
        click.echo(f"  held out said, at 0.5: {estimates[0]}; within domains {estimates[1]}")
    _say_flops(run_dir, inputs.config.share)
    if by_domain:
        _say_domains(truth.domains, true, predicted, groups)


def _say_flops(run_dir: Path, share: float) -> None:
    teacher, reference = (read_manifest(run_dir / f"score/{r}") for r in ("teacher", "reference"))
    assert teacher is not None
    assert reference is not None
    full, spent = teacher.flops + reference.flops, share * teacher.flops + reference.flops
    click.echo(f"  FLOPs {spent:.3g} against {full:.3g} ({spent / full:.0%})")


def _say_domains(domains: Sequence[str], true, predicted, groups) -> None:
    for number, name in enumerate(domains):
        here = groups == number
        click.echo(
            f"    {name:24} {int(here.sum()):6,} rows, "
            f"within {selection_agreement(true[here], predicted[here]):.1%}, "
            f"spearman {spearman(true[here], predicted[here]):.2f}"
        )


def _other_head(inputs: ProxyInputs, head: str):
    """A head that is no linear map, on the dense features."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = inputs.sampled("token")
    fitted = rows.take(np.flatnonzero(~inputs.choice.is_held_out(rows.sequence_ids)))
    if head == "mlp":
        network = MLPRegressor(
            hidden_layer_sizes=(64,), early_stopping=True, alpha=1e-3, max_iter=500, random_state=0
        )
        model = make_pipeline(StandardScaler(), network)
    else:
        model = HistGradientBoostingRegressor(random_state=0)
    return model.fit(fitted.features_RF, fitted.difference_R).predict


if __name__ == "__main__":
    main()
