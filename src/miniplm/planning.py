"""What a run would do and cost, before anything starts.

Tokens are known once the corpus is tokenised and estimated from its bytes until then. FLOPs are
counted from the shapes. Hours divide them by the rate of a matrix product measured on this
machine times a stated utilisation, so they are good for a decision, not for a timetable.
"""

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path

from miniplm.data.documents import estimate_bytes
from miniplm.errors import ModelError
from miniplm.manifest import read_manifest
from miniplm.model import ModelConfig, ModelSize, model_config, model_size
from miniplm.pipeline import Road, Step
from miniplm.recipe import Recipe
from miniplm.training.config import TrainingConfig

UTILISATION = 0.25
"""Share of the measured matrix-product rate that whole models are assumed to reach."""

TOKENIZE_BYTES_PER_SECOND = 4e6
PAPER_TOKENS_PER_PARAM = {"teacher": 20, "reference": 20, "student": 40}
"""Below these a comparison says little (the paper's reference saw 50, its students 40 to 250)."""

_TRAINING_BYTES_PER_PARAM = 4 + 2 * 12
"""The model, and two checkpoints of weights and both moments."""


@dataclass(frozen=True)
class StepPlan:
    """A step's state and cost; figures that are not known are None.

    Args:
        name: Of the step.
        state: `complete`, `missing`, or `again` where the output is of another recipe.
        num_tokens: Tokens it goes through.
        flops: FLOPs, counted from the shapes.
        num_bytes: Bytes it leaves on disk, roughly.
        hours: On this machine, roughly.
        note: Such as the tokens per parameter.
    """

    name: str
    state: str
    num_tokens: float | None
    flops: float | None
    num_bytes: float | None
    hours: float | None
    note: str


@dataclass(frozen=True)
class Plan:
    """Steps in order, what to know about them, and what was assumed."""

    steps: list[StepPlan]
    warnings: list[str]
    assumptions: list[str]


def make_plan(recipe: Recipe) -> Plan:
    """Plan a recipe. Raises what reading the corpus's size and the models' shapes raises."""
    return _Planner(recipe).plan()


def bytes_per_token(vocab_size: int) -> float:
    """Rough bytes of mixed English and code behind a token of a byte-level BPE.

    A straight line in log2 of the vocabulary through what we measured: 2.6 bytes at 2,048
    entries, 3.3 at 8,192, 4.2 at 50,257.
    """
    return max(1.0, 0.35 * math.log2(vocab_size) - 1.25)


class _Planner:
    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.road = Road(recipe)
        self.warnings: list[str] = []
        self.rate = measured_matmul_rate()
        self.tokens = self._tokens_by_split()
        self.sizes: dict[str, ModelSize | None] = {}

    def plan(self) -> Plan:
        steps = [self._plan_step(step) for step in self.road.steps]
        assumptions = [
            f"a bfloat16 matrix product runs at {self.rate / 1e12:.2f} TFLOP/s here; hours assume "
            f"models reach {UTILISATION:.0%} of it",
        ]
        if not self.tokens_are_counted:
            assumptions.append("tokens are estimated from the corpus's bytes; tokenise to know")
        return Plan(steps, self.warnings, assumptions)

    def _tokens_by_split(self) -> dict[str, float]:
        tokenize = self.road.step("tokenize")
        self.tokens_are_counted = tokenize.is_complete
        if tokenize.is_complete:
            manifest = read_manifest(tokenize.folder)
            assert manifest is not None
            splits = manifest.facts["splits"]
            return {split: float(counts["num_tokens"]) for split, counts in splits.items()}
        per_token = bytes_per_token(self._vocab_size())
        total = estimate_bytes(self.recipe.corpus) / per_token
        shares = self.recipe.splits
        tokens = {
            "reference": total * shares.reference,
            "teacher": total * shares.teacher,
            "held_out": total * shares.held_out,
        }
        tokens["candidates"] = total - sum(tokens.values())
        if self.recipe.held_out_corpus:
            tokens["held_out"] = estimate_bytes(self.recipe.held_out_corpus) / per_token
        return tokens

    def _vocab_size(self) -> int:
        """Of the trained tokenizer; a common size for a released one that is not at hand."""
        if self.recipe.tokenizer.name is None:
            return self.recipe.tokenizer.vocab_size
        with contextlib.suppress(ModelError):
            from miniplm.data.tokenizer import load_tokenizer

            if Path(self.recipe.tokenizer.name).is_dir():
                return len(load_tokenizer(self.recipe.tokenizer.name))
        return 50_257

    def _size(self, name: str) -> ModelSize | None:
        if name not in self.sizes:
            self.sizes[name] = self._count(name)
        return self.sizes[name]

    def _count(self, name: str) -> ModelSize | None:
        recipe = self.recipe
        config: ModelConfig = recipe.students.get(name) or getattr(recipe, name)
        length = recipe.packing.max_length
        if config.from_scratch:
            return model_size(model_config(config, self._vocab_size(), length), length)
        from transformers import AutoConfig

        try:
            shape = AutoConfig.from_pretrained(
                config.name,
                revision=config.revision,
                trust_remote_code=config.trust_remote_code,
            )
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0][:200]
            self.warnings.append(f"{name}: the shape of {config.name!r} is not known ({reason})")
            return None
        return model_size(shape, length)

    def _plan_step(self, step: Step) -> StepPlan:
        instance = step.name.partition("/")[2]
        num_tokens: float | None = None
        flops: float | None = None
        num_bytes: float | None = None
        note = ""
        seconds = 0.0
        if step.kind == "tokenize":
            corpus_bytes = estimate_bytes(self.recipe.corpus)
            num_tokens = sum(self.tokens.values())
            num_bytes = num_tokens * (2 if self._vocab_size() < 65_500 else 4)
            seconds = corpus_bytes / TOKENIZE_BYTES_PER_SECOND
            note = f"{corpus_bytes / 1e6:,.0f} MB of text"
        elif step.kind == "train":
            num_tokens, flops, num_bytes, note = self._plan_training(instance)
        elif step.kind in ("score", "evaluate"):
            split = "candidates" if step.kind == "score" else "held_out"
            num_tokens = self.tokens[split]
            size = self._size(instance)
            flops = size.forward_flops_per_token * num_tokens if size else None
            num_bytes = 28 * num_tokens / self.recipe.packing.max_length
        elif step.kind == "export":
            ratio = self.recipe.selections[instance].ratio
            num_tokens = self.tokens["candidates"] * ratio
            num_bytes = num_tokens * (2 if self._vocab_size() < 65_500 else 4)
        if flops is not None:
            seconds = flops / (self.rate * UTILISATION)
        unknown = flops is None and step.kind in ("train", "score", "evaluate")
        return StepPlan(
            name=step.name,
            state=self._state(step),
            num_tokens=num_tokens,
            flops=flops,
            num_bytes=num_bytes,
            hours=None if unknown else seconds / 3600,
            note=note,
        )

    def _state(self, step: Step) -> str:
        if step.is_complete:
            return "complete"
        return "again" if read_manifest(step.folder) else "missing"

    def _plan_training(self, name: str) -> tuple[float | None, float | None, float | None, str]:
        student = self.recipe.students.get(name)
        role = "student" if student else name
        training = self._training(name)
        size = self._size(name)
        assert size is not None
        num_tokens = self._budget_tokens(training, size)
        flops = 3 * size.forward_flops_per_token * num_tokens
        per_param = num_tokens / size.num_params
        if student and student.corpus != "candidates":
            available = self.tokens["candidates"] * self.recipe.selections[student.corpus].ratio
        else:
            available = self.tokens["candidates" if student else name]
        epochs = num_tokens / max(1.0, available)
        wanted = PAPER_TOKENS_PER_PARAM[role]
        if per_param < wanted:
            self.warnings.append(
                f"{name}: {per_param:.1f} tokens per parameter; under {wanted} a comparison says "
                "little (docs/architecture.md)"
            )
        note = (
            f"{size.num_params / 1e6:.2f}M parameters, {per_param:.1f} tokens each, "
            f"{epochs:.1f} epochs"
        )
        return num_tokens, flops, size.num_params * _TRAINING_BYTES_PER_PARAM, note

    def _training(self, name: str) -> TrainingConfig:
        if name in self.recipe.students:
            return self.recipe.student_training(name)
        training: TrainingConfig = getattr(self.recipe, name).training
        return training

    def _budget_tokens(self, training: TrainingConfig, size: ModelSize) -> float:
        budget = training.budget
        if budget.tokens is not None:
            return float(budget.tokens)
        if budget.flops is not None:
            return budget.flops / (3 * size.forward_flops_per_token)
        assert budget.steps is not None
        return float(budget.steps * training.global_batch_size * self.recipe.packing.max_length)


def measured_matmul_rate(seconds: float = 0.5) -> float:
    """FLOP/s of a bfloat16 matrix product on the device that models would run on."""
    import torch

    from miniplm.runtime.devices import best_device

    device = best_device()
    size = 1024 if device.type == "cpu" else 8192
    left = torch.randn(size, size, device=device).bfloat16()
    right = torch.randn(size, size, device=device).bfloat16()

    def synchronise() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    left @ right
    synchronise()
    started, count = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        left @ right
        synchronise()
        count += 1
    return 2 * size**3 * count / (time.monotonic() - started)
