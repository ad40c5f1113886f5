"""The value of a held-out evaluation in a line of `metrics.jsonl`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from miniplm.errors import ConfigError

HELD_OUT_LOSS = "held_out_loss"
BITS_PER_BYTE = "bits_per_byte"
_DOMAINS = "held_out"
"""Of a line: bits per byte by domain."""
_NOT = "^"


@dataclass(frozen=True)
class LossKind:
    """What curves are drawn of.

    Args:
        name: `held_out_loss`, `bits_per_byte` (a mean over domains), or the same over some domains:
            `bits_per_byte:PATTERN,PATTERN`, where a pattern that begins with `^` leaves out.

    Raises:
        ConfigError: There is no such kind.
    """

    name: str = HELD_OUT_LOSS

    def __post_init__(self) -> None:
        kind, _, patterns = self.name.partition(":")
        empty = ":" in self.name and not all(each.strip(_NOT) for each in patterns.split(","))
        if self.name != HELD_OUT_LOSS and (kind != BITS_PER_BYTE or empty):
            raise ConfigError(
                "--loss",
                [
                    f"there is no {self.name!r}; choose {HELD_OUT_LOSS}, {BITS_PER_BYTE}, or "
                    f"{BITS_PER_BYTE}:PATTERN,PATTERN of domains, such as "
                    f"{BITS_PER_BYTE}:{_NOT}noise-*"
                ],
            )

    @property
    def is_per_token(self) -> bool:
        """Whether it depends on the tokenizer."""
        return self.name == HELD_OUT_LOSS

    @property
    def unit(self) -> str:
        """In words."""
        if self.is_per_token:
            return "nats per token"
        patterns = self.name.partition(":")[2]
        return f"bits per byte, mean of domains{f' ({patterns})' if patterns else ''}"

    def domains(self, line: Mapping[str, Any]) -> list[str]:
        """Those of a line that are looked at; none for losses per token.

        Example:
            >>> line = {"held_out": {"law": 1.0, "news": 2.0, "noise-hex": 6.0}}
            >>> LossKind("bits_per_byte:^noise-*").domains(line)
            ['law', 'news']
        """
        if self.is_per_token:
            return []
        patterns = [each for each in self.name.partition(":")[2].split(",") if each]
        wanted = [each for each in patterns if not each.startswith(_NOT)] or ["*"]
        unwanted = [each.removeprefix(_NOT) for each in patterns if each.startswith(_NOT)]
        return [
            domain
            for domain in line.get(_DOMAINS) or {}
            if any(fnmatchcase(domain, each) for each in wanted)
            and not any(fnmatchcase(domain, each) for each in unwanted)
        ]

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
            values = [line[_DOMAINS][domain] for domain in self.domains(line)]
            found = sum(values) / len(values) if values else None
        return float(found) if found is not None and math.isfinite(found) else None
