"""How well a proxy predicts, on sequences that it was not fit on; and whether that is enough.

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
from miniplm.errors import ArtefactError
from miniplm.runtime.log import logger
from miniplm.scoring.agreement import (
    PAPER_RATIO,
    Estimate,
    agreement_within,
    bar_at,
    bootstrap,
    selection_agreement,
    spearman,
    top_rows,
)
from miniplm.scoring.proxy_config import ProxyConfig

HELD_OUT_NAME = "held_out.parquet"
_SEED = 1


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
    """

    sequence_ids: NDArray[np.int64]
    domains: tuple[str, ...]
    domain_numbers_R: NDArray[np.int32]
    true_R: NDArray[np.float64]
    predicted_R: NDArray[np.float64]
    num_tokens_R: NDArray[np.int32]
    num_bytes_R: NDArray[np.int64]
    unit: str

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
        write_parquet(path, pa.table(columns), {"unit": self.unit})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read them again.

        Raises:
            ArtefactError: The file is missing or damaged.
        """
        file = ColumnFile(path)
        domains = file.table(["domain"])["domain"].unify_dictionaries().combine_chunks()
        return cls(
            file.array("sequence_id"),
            tuple(domains.dictionary.to_pylist()),
            domains.indices.to_numpy(),
            true_R=file.array("true"),
            predicted_R=file.array("predicted"),
            num_tokens_R=file.array("num_tokens"),
            num_bytes_R=file.array("num_bytes"),
            unit=file.metadata["unit"],
        )

    def scores(self, normalization: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """True and predicted differences by a normalization of `selection.difference`."""
        units: dict[str, NDArray[np.integer]] = {
            "per_token": self.num_tokens_R,
            "per_byte": self.num_bytes_R,
            "sum": np.ones(1, dtype=np.int64),
        }
        factor_R = units[f"per_{self.unit}"] / np.maximum(units[normalization], 1)
        return self.true_R * factor_R, self.predicted_R * factor_R

    def agreement(
        self, ratio: float = PAPER_RATIO, normalization: str = "", *, within_domains: bool = False
    ) -> Estimate:
        """Selection agreement at a ratio, over all rows or inside each domain.

        Args:
            ratio: Share of the rows that is kept.
            normalization: What differences are per; by default what was predicted.
            within_domains: Whether the top is taken inside each domain.
        """
        true_R, predicted_R = self.scores(normalization or f"per_{self.unit}")
        if within_domains:
            figure = partial(agreement_within, ratio=ratio)
            return bootstrap(figure, [true_R, predicted_R, self.domain_numbers_R], _SEED)
        return bootstrap(partial(selection_agreement, ratio=ratio), [true_R, predicted_R], _SEED)

    def facts(self) -> dict[str, Any]:
        """What a manifest says of the proxy, at the paper's selection ratio."""
        kept_R, guessed_R = (top_rows(scores, PAPER_RATIO) for scores in self.scores(self._per))
        by_domain = {
            name: self._domain_facts(self.domain_numbers_R == number, kept_R, guessed_R)
            for number, name in enumerate(self.domains)
            if (self.domain_numbers_R == number).any()
        }
        return {
            "held_out": len(self.true_R),
            "unit": self.unit,
            "ratio": PAPER_RATIO,
            "spearman": asdict(bootstrap(spearman, [self.true_R, self.predicted_R], _SEED)),
            "agreement": asdict(self.agreement()),
            "agreement_within_domains": asdict(self.agreement(within_domains=True)),
            "domains": by_domain,
        }

    @property
    def _per(self) -> str:
        return f"per_{self.unit}"

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


def require_agreement(
    scores_folder: Path,
    proxy: ProxyConfig,
    ratio: float,
    normalization: str = "per_token",
    *,
    within_domains: bool = False,
) -> None:
    """Refuse to select by predicted scores that rank too unlike the true ones.

    Args:
        scores_folder: Of the predicted score tables.
        proxy: Has the bar.
        ratio: Share of the rows that is to be kept.
        normalization: What log-probabilities are divided by.
        within_domains: Whether the top is taken inside each domain.

    Raises:
        ArtefactError: The agreement on held-out sequences is under the bar.
    """
    held_out = HeldOut.read(scores_folder / HELD_OUT_NAME)
    found = held_out.agreement(ratio, normalization, within_domains=within_domains)
    bar = bar_at(proxy.min_agreement, ratio)
    if found.value >= bar:
        return
    where = "inside domains " if within_domains else ""
    other = "ngrams" if proxy.features == "hidden" else "hidden"
    message = (
        f"{scores_folder}: the predicted scores rank too unlike the true ones. Of the true top "
        f"{ratio:.0%} {where}of {len(held_out.true_R)} held-out sequences {found} are in the "
        f"predicted one; the bar is {bar:.1%} (scoring.proxy.min_agreement "
        f"{proxy.min_agreement:g}, chance gives {ratio:.0%}). The scores are kept. Raise "
        f"scoring.proxy.share (now {proxy.share:g}), try scoring.proxy.features={other}, score "
        "everything (scoring.proxy=null), or select all the same "
        "(scoring.proxy.allow_low_agreement=true)."
    )
    if not proxy.allow_low_agreement:
        raise ArtefactError(message)
    logger.warning("%s", message)
