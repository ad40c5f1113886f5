"""The table of models for the terminal."""

from collections.abc import Sequence

from miniplm.report.model_content import ModelRow


def model_lines(models: Sequence[ModelRow]) -> list[list[str]]:
    """The table of models for the terminal: a heading, then a line for each model."""
    heading = [
        "model", "trained on", "tokens", "per parameter", "training FLOPs", "total FLOPs", "time",
        "loss", "bits per byte",
    ]  # fmt: skip
    return [heading, *(_line(row) for row in models)]


def _line(row: ModelRow) -> list[str]:
    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        row.name,
        row.origin,
        shown(row.num_tokens_trained, ","),
        shown(row.tokens_per_param, ".1f"),
        shown(row.training_flops, ".3g"),
        shown(row.total_flops, ".3g"),
        "" if row.training_seconds is None else f"{row.training_seconds:,.0f} s",
        shown(row.held_out_loss, ".4f"),
        shown(row.bits_per_byte, ".4f"),
    ]
