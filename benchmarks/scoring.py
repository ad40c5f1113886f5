"""Scoring token shards: the authors' step, with and without an allocator that keeps its memory."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import KEEP_MEMORY, Bench, Clock, Contender
from benchmarks.setting import Setting
from miniplm.data.shards import make_sidecar, open_shards, write_shard
from miniplm.model import ModelConfig, build_model, load_model, model_config
from miniplm.model_size import size_of
from miniplm.runtime.devices import best_device
from miniplm.scoring.config import ScoringConfig
from miniplm.scoring.scorer import ScoringModel, score_shards

SHAPES: dict[str, dict[str, Any]] = {
    "50M teacher": {
        "hidden_size": 768, "intermediate_size": 2112, "num_layers": 7, "num_heads": 12,
    },
    "5M reference": {
        "hidden_size": 256, "intermediate_size": 704, "num_layers": 6, "num_heads": 4,
    },
    "1.8B teacher": {
        "hidden_size": 2048, "intermediate_size": 5504, "num_layers": 24, "num_heads": 16,
    },
}  # fmt: skip
"""Without embeddings; the last is the shape of Qwen1.5-1.8B."""

LENGTH = 1024
EOS = 0


def prepare(
    _: Clock, *, folder: str, vocab_size: int, num_rows: int, batch: int, **_others: Any
) -> None:
    """Rows of random ids, full length, as token shards: a batch to warm up with, and to score."""
    for name, count in (("warm-up", batch), ("rows", num_rows)):
        rows = np.random.default_rng(count).integers(1, vocab_size, (count, LENGTH + 1))
        sidecar = make_sidecar(
            np.arange(count, dtype=np.int64),
            ["text"] * count,
            np.full(count, LENGTH + 1, np.int32),
            np.full(count, 4 * LENGTH, np.int64),
            [[str(index)] for index in range(count)],
        )
        write_shard(
            Path(folder) / name / "data_0", list(rows.astype(np.int32)), sidecar,
            vocab_size=vocab_size, eos_id=EOS, max_length=LENGTH,
        )  # fmt: skip


def make_model(shape: str, vocab_size: int, dtype: str):
    config = ModelConfig.model_validate({"shape": SHAPES[shape]})
    made = model_config(config, vocab_size, LENGTH)
    with torch.device(best_device()):
        model = build_model(made, 0)
    return model.to(getattr(torch, dtype)).eval()


def authors(
    clock: Clock, *, folder: str, shape: str, vocab_size: int, dtype: str, batch: int, **_: Any
) -> float:
    """The authors' step by its cost: every row padded to the maximum and given a mask, the model's
    own logits for all positions cast to float32, cross-entropy, and the losses fetched each step.
    """
    model = make_model(shape, vocab_size, dtype)

    def score(name: str) -> list[float]:
        losses: list[float] = []
        for shard in open_shards(Path(folder) / name):
            for begin in range(0, len(shard), batch):
                rows = [shard.row(index) for index in range(begin, min(len(shard), begin + batch))]
                ids = np.full((len(rows), LENGTH + 1), EOS)
                for index, row in enumerate(rows):
                    ids[index, : len(row)] = row
                losses += _authors_step(model, torch.from_numpy(ids).to(model.device))
        torch.save(torch.tensor(losses), Path(folder) / f"{name}.pt")
        return losses

    score("warm-up")
    with clock:
        num_rows = len(score("rows"))
    _count(clock, model, num_rows)
    return num_rows * LENGTH


@torch.no_grad()
def _authors_step(model, ids_BT: torch.Tensor) -> list[float]:
    inputs, targets = ids_BT[:, :-1], ids_BT[:, 1:]
    mask = inputs != EOS
    logits = model(input_ids=inputs, attention_mask=mask.long(), use_cache=False).logits.float()
    losses = torch.nn.functional.cross_entropy(
        logits.view(-1, logits.size(-1)), targets.reshape(-1), reduction="none"
    ).view(targets.shape)
    return ((losses * mask).sum(1) / mask.sum(1)).tolist()


def miniplm(
    clock: Clock, *, folder: str, shape: str, vocab_size: int, dtype: str, compiled: bool, **_: Any
) -> float:
    """The score stage, from token shards to score tables."""
    from miniplm.scoring import tuning

    tuning.COMPILING_PAYS_FROM = 0.0 if compiled else float("inf")
    model = make_model(shape, vocab_size, dtype)
    scorer = ScoringModel(model, shape, str(time.time_ns()), dtype)
    num_bytes_V = np.ones(vocab_size, np.int64)

    def score(name: str) -> Any:
        return score_shards(
            scorer, Path(folder) / name, num_bytes_V, ScoringConfig(dtype=dtype),
            Path(folder) / "scores" / name,
        )  # fmt: skip

    started = time.perf_counter()
    score("warm-up")
    clock.facts["seconds_to_first_scores"] = round(time.perf_counter() - started, 1)
    with clock:
        outcome = score("rows")
        clock.facts |= outcome.facts
    if compiled:  # compiled in the warm-up; the second time is a look-up and a batch
        clock.seconds -= outcome.facts["compile_seconds"]
    _count(clock, model, outcome.counts["sequences"])
    return float(outcome.num_tokens)


def _count(clock: Clock, model, num_rows: int) -> None:
    clock.facts["flops_per_second"] = (
        num_rows * LENGTH * size_of(model, LENGTH).forward_flops_per_token / clock.seconds
    )


def agreement(clock: Clock, *, run: str) -> float:
    """bfloat16 scores against float32 ones, with the trained models of a run."""
    from miniplm.data.tokenizer import load_tokenizer, token_table
    from miniplm.scoring.scorer import score_rows
    from miniplm.scoring.tuning import tune

    shard = open_shards(Path(run) / "tokenize" / "candidates")[0]
    num_bytes_V = token_table(load_tokenizer(Path(run) / "tokenize" / "tokenizer")).num_bytes_V
    means: dict[tuple[str, str], np.ndarray] = {}
    with clock:
        for role in ("teacher", "reference"):
            for dtype in ("float32", "bfloat16"):
                model = load_model(Path(run) / "train" / role / "model", dtype=dtype)
                tuned = tune(model, 1.0)
                if dtype == "bfloat16":
                    from miniplm.scoring.attention import use_blocked_attention

                    use_blocked_attention(model)
                table = score_rows([model], shard, num_bytes_V, tuned, lambda *_, **__: None)[0]
                counts = np.maximum(table["num_tokens"].to_numpy(), 1)
                means[role, dtype] = table["log_prob"].to_numpy() / counts
    difference = {
        dtype: means["teacher", dtype] - means["reference", dtype]
        for dtype in ("float32", "bfloat16")
    }
    kept = {
        dtype: values > np.partition(values, len(values) // 2)[len(values) // 2]
        for dtype, values in difference.items()
    }
    errors = np.abs(means["teacher", "bfloat16"] - means["teacher", "float32"])
    clock.facts |= {
        "sequences": len(shard),
        "teacher_error_mean": float(errors.mean()),
        "teacher_error_max": float(errors.max()),
        "difference_error_mean": float(
            np.abs(difference["bfloat16"] - difference["float32"]).mean()
        ),
        "overlap": float((kept["bfloat16"] & kept["float32"]).sum() / kept["float32"].sum()),
    }
    return 4.0 * (shard.num_ids - len(shard))


def benches(setting: Setting) -> list[Bench]:
    """Teacher and reference over a usual vocabulary, the teacher over a large one."""
    many = 4 if setting.size == "full" else 1
    gpu = torch.cuda.is_available()
    cases = [
        ("50M teacher", 50_257, 6 * many, 3, ">= 5x, >= 1.8x kept, >= 55 % of peak, memory <= 1/5"),
        ("5M reference", 50_257, 22 * many, 11, ">= 6x, >= 2.5x kept, >= 35 % of peak"),
        ("50M teacher", 151_936, 3 * many, 3, ">= 5x, memory independent of B x T x V"),
    ]
    if gpu:
        cases = [("1.8B teacher", 151_936, 128 * many, 8, ">= 3x, >= 50 % of peak")]
    made = [
        _bench(setting, shape, vocab_size, num_rows, batch, goal)
        for shape, vocab_size, num_rows, batch, goal in cases
    ]
    if setting.run is not None:
        made.append(
            Bench(
                name="agreement of bfloat16 with float32",
                unit="tokens",
                baseline="miniplm",
                contenders={"miniplm": Contender("scoring:agreement")},
                arguments={"run": str(setting.run)},
                goal="overlap of the selected sets >= 99.5 %",
                once=True,
            )
        )
    return made


def _bench(
    setting: Setting, shape: str, vocab_size: int, num_rows: int, batch: int, goal: str
) -> Bench:
    name = f"score, {shape}, vocabulary {round(vocab_size / 1000)}k"
    contenders = {
        "authors": Contender("scoring:authors"),
        "authors, memory kept": Contender("scoring:authors", environment=KEEP_MEMORY),
        "miniplm": Contender("scoring:miniplm", {"compiled": False}),
    }
    if setting.size == "full":
        contenders["miniplm, compiled"] = Contender("scoring:miniplm", {"compiled": True})
    return Bench(
        name=name,
        unit="tokens",
        baseline="authors",
        contenders=contenders,
        arguments={
            "folder": str(setting.folder / name.replace(" ", "-").replace(",", "")),
            "shape": shape,
            "vocab_size": vocab_size,
            "num_rows": num_rows,
            "dtype": "bfloat16",
            "batch": batch,
        },
        goal=goal,
        prepare="scoring:prepare",
        peer="authors, memory kept",
    )
