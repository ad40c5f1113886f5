"""How well a proxy predicts, on sequences that it was not fit on.

Axes: R held-out rows.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miniplm.data.parquet import ColumnFile, write_parquet
from miniplm.scoring.agreement import (
    PAPER_RATIO,
    Estimate,
    agreement_by_chance,
    agreement_within,
    bootstrap,
    selection_agreement,
    spearman,
    top_rows,
)

HELD_OUT_NAME = "held_out.parquet"
_SEED = 1

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """Held-out rows as something ranks them.

    Args:
        true_R: What they are ranked by where the teacher scored them.
        predicted_R: What they are ranked by where it is predicted.
        strata_R: Rows of one number are ranked against each other.
    """

    true_R: Values
    predicted_R: Values
    strata_R: NDArray[np.integer]

    @property
    def num_strata(self) -> int:
        """Of which there are rows."""
        return len(np.unique(self.strata_R))

    def agreement(self, ratio: float = PAPER_RATIO) -> Estimate:
        """Share of the true tops of all strata that is in the predicted ones."""
        figure = partial(agreement_within, ratio=ratio)
        return bootstrap(figure, [self.true_R, self.predicted_R, self.strata_R], _SEED)

    def by_chance(self, ratio: float = PAPER_RATIO) -> float:
        """What that would be, on average, for predictions that know nothing."""
        return agreement_by_chance(self.strata_R, ratio)


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows with their true and predicted difference scores.

    Args:
        sequence_ids: `[R]`.
        domains: Names.
        domain_numbers_R: Which of them each row belongs to.
        true_R: Difference scores by the teacher itself, nats per unit.
        predicted_R: Those that the proxy predicts.
        num_tokens_R: Targets of the row.
        num_bytes_R: Bytes that they stand for.
        unit: `token` or `byte`: what differences are per.
        reference_R: The reference's log-probabilities, nats per unit; None in files of older
            versions, which lack them.
    """

    sequence_ids: NDArray[np.int64]
    domains: tuple[str, ...]
    domain_numbers_R: NDArray[np.int32]
    true_R: NDArray[np.float64]
    predicted_R: NDArray[np.float64]
    num_tokens_R: NDArray[np.int32]
    num_bytes_R: NDArray[np.int64]
    unit: str
    reference_R: NDArray[np.float64] | None = None

    def write(self, path: Path) -> None:
        """Write them as Parquet, atomically."""
        names = pa.array(self.domains, pa.string())
        domains = pa.DictionaryArray.from_arrays(pa.array(self.domain_numbers_R), names)
        columns = {
            "sequence_id": pa.array(self.sequence_ids),
            "domain": domains,
            "true": pa.array(self.true_R),
            "predicted": pa.array(self.predicted_R),
            "num_tokens": pa.array(self.num_tokens_R),
            "num_bytes": pa.array(self.num_bytes_R),
        }
        if self.reference_R is not None:
            columns["reference"] = pa.array(self.reference_R)
        write_parquet(path, pa.table(columns), {"unit": self.unit})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read them again.

        Raises:
            ArtefactError: The file is missing or damaged.
        """
        file = ColumnFile(path)
        domains, domain_numbers = file.categories("domain")
        return cls(
            file.array("sequence_id"),
            tuple(domains),
            domain_numbers,
            true_R=file.array("true"),
            predicted_R=file.array("predicted"),
            num_tokens_R=file.array("num_tokens"),
            num_bytes_R=file.array("num_bytes"),
            unit=file.metadata["unit"],
            reference_R=file.array("reference") if "reference" in file.names else None,
        )

    def scores(self, normalization: str = "") -> tuple[Values, Values]:
        """True and predicted differences by a normalization; by default per what was predicted."""
        factor_R = self._factor(normalization)
        return self.true_R * factor_R, self.predicted_R * factor_R

    def reference(self, normalization: str) -> Values | None:
        """The reference's log-probabilities by a normalization, where they were kept."""
        return None if self.reference_R is None else self.reference_R * self._factor(normalization)

    def _factor(self, normalization: str) -> Values:
        """What figures per unit are to be multiplied by, for one of `selection.difference`."""
        units: dict[str, NDArray[np.integer]] = {
            "per_token": self.num_tokens_R,
            "per_byte": self.num_bytes_R,
            "sum": np.ones(1, dtype=np.int64),
        }
        divisor = units[normalization or f"per_{self.unit}"]
        factor_R: Values = units[f"per_{self.unit}"] / np.maximum(divisor, 1)
        return factor_R

    def ranked(self, normalization: str = "", *, within_domains: bool = False) -> Ranked:
        """The rows by their differences, all against each other or inside each domain.

        Args:
            normalization: What differences are per; by default what was predicted.
            within_domains: Whether each domain has a ranking of its own.
        """
        numbers_R = self.domain_numbers_R
        strata_R = numbers_R if within_domains else np.zeros_like(numbers_R)
        return Ranked(*self.scores(normalization), strata_R)

    def spearman(self) -> Estimate:
        """Rank correlation of predicted and true difference scores."""
        return bootstrap(spearman, [self.true_R, self.predicted_R], _SEED)

    def facts(self) -> dict[str, Any]:
        """What a manifest says of the proxy, at the paper's selection ratio."""
        kept_R, guessed_R = (top_rows(scores, PAPER_RATIO) for scores in self.scores())
        by_domain = {
            name: self._domain_facts(self.domain_numbers_R == number, kept_R, guessed_R)
            for number, name in enumerate(self.domains)
            if (self.domain_numbers_R == number).any()
        }
        return {
            "held_out": len(self.true_R),
            "unit": self.unit,
            "ratio": PAPER_RATIO,
            "spearman": asdict(self.spearman()),
            "agreement": asdict(self.ranked().agreement()),
            "agreement_within_domains": asdict(self.ranked(within_domains=True).agreement()),
            "domains": by_domain,
        }

    def _domain_facts(
        self,
        here_R: NDArray[np.bool_],
        kept_R: NDArray[np.bool_],
        guessed_R: NDArray[np.bool_],
    ) -> dict[str, Any]:
        """Of one domain; `agreement` is of its rows in the top of all domains together."""
        true, predicted = self.true_R[here_R], self.predicted_R[here_R]
        kept = int(kept_R[here_R].sum())
        return {
            "held_out": int(here_R.sum()),
            "kept": kept,
            "kept_by_proxy": int(guessed_R[here_R].sum()),
            "agreement": int((kept_R & guessed_R)[here_R].sum()) / kept if kept else None,
            "agreement_within": selection_agreement(true, predicted),
            "spearman": spearman(true, predicted),
        }
