"""The value of a held-out evaluation in a line of `metrics.jsonl`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from miniplm.errors import ConfigError

HELD_OUT_LOSS = "held_out_loss"
BITS_PER_BYTE = "bits_per_byte"
_DOMAINS = "held_out"
"""Of a line: bits per byte by domain."""


@dataclass(frozen=True)
class LossKind:
    """What curves are drawn of.

    Args:
        name: `held_out_loss`, `bits_per_byte` (a mean over domains), or `bits_per_byte:DOMAIN`.

    Raises:
        ConfigError: There is no such kind.
    """

    name: str = HELD_OUT_LOSS

    def __post_init__(self) -> None:
        kind = self.name.partition(":")[0]
        if self.name != HELD_OUT_LOSS and (kind != BITS_PER_BYTE or self.name.endswith(":")):
            raise ConfigError(
                "--loss",
                [
                    f"there is no {self.name!r}; choose {HELD_OUT_LOSS}, {BITS_PER_BYTE} or "
                    f"{BITS_PER_BYTE}:DOMAIN"
                ],
            )

    @property
    def domain(self) -> str | None:
        """The one that is looked at; None where it is all of them."""
        return self.name.partition(":")[2] or None

    @property
    def is_per_token(self) -> bool:
        """Whether it depends on the tokenizer."""
        return self.name == HELD_OUT_LOSS

    @property
    def unit(self) -> str:
        """In words."""
        if self.is_per_token:
            return "nats per token"
        return f"bits per byte, {self.domain or 'mean of domains'}"

    def value(self, line: Mapping[str, Any]) -> float | None:
        """What a line says of it; None where it says nothing or what it says is not finite.

        Example:
            >>> LossKind().value({"step": 3, "held_out_loss": 2.5})
            2.5
            >>> LossKind("bits_per_byte").value({"held_out": {"law": 1.0, "news": 2.0}})
            1.5
        """
        if self.is_per_token:
            found = line.get(HELD_OUT_LOSS)
        else:
            by_domain = line.get(_DOMAINS) or {}
            chosen = by_domain.values() if self.domain is None else [by_domain.get(self.domain)]
            values = [each for each in chosen if each is not None]
            found = sum(values) / len(values) if values else None
        return float(found) if found is not None and math.isfinite(found) else None
