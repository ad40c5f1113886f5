"""How far the teacher is ahead of the reference, by domain, and what that says of the scores.

The difference score of a row is the reference's loss less the teacher's, in nats per token, so the
mean over a domain is how far the teacher is ahead there. Where most of the scores' variance lies
between domains, a ranking over all of them is mostly a choice of domains.

Axes: R rows, D domains.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miniplm.selection.difference import Normalization
from miniplm.selection.scores import Block, scored_shards


@dataclass(frozen=True)
class DomainLead:
    """Teacher and reference on the candidates of a domain; losses in nats per token (or byte).

    Args:
        domain: Its name.
        num_rows: Rows with a score.
        teacher: Mean loss of a row under the teacher.
        reference: The same under the reference.
        deviation: Standard deviation of the difference score within the domain.
        behind: Share of rows on which the teacher is worse than the reference.
    """

    domain: str
    num_rows: int
    teacher: float
    reference: float
    deviation: float
    behind: float

    @property
    def ahead(self) -> float:
        """Mean difference score: how far the teacher is ahead."""
        return self.reference - self.teacher


@dataclass(frozen=True)
class Lead:
    """The teacher's lead in every domain.

    Args:
        domains: In order of their names.
        between: Share of the difference score's variance that lies between the means of domains;
            0 where the score does not vary.
    """

    domains: tuple[DomainLead, ...]
    between: float


class LeadSums:
    """Sums of the scores of each domain, from which a `Lead` follows; rows are seen once.

    Squares are of the differences to the first row's score of each domain, so that nothing is
    lost where the spread is small beside the mean.
    """

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._sums_D6 = np.zeros((0, 6))
        self._origins_D = np.zeros(0)

    def add(
        self,
        teacher_R: NDArray[np.float64],
        reference_R: NDArray[np.float64],
        domains: Iterable[str],
        numbers_R: NDArray[np.integer],
    ) -> None:
        """Add rows.

        Args:
            teacher_R: Mean log-probabilities under the teacher, `[R]`; rows with NaN do not count.
            reference_R: The same under the reference.
            domains: Names.
            numbers_R: Which of them each row belongs to, `[R]`.
        """
        known = np.isfinite(teacher_R - reference_R)
        teacher, reference, numbers = teacher_R[known], reference_R[known], numbers_R[known]
        differences = teacher - reference
        for number, name in enumerate(domains):
            rows = numbers == number
            if rows.any():
                self._add_domain(name, teacher[rows], reference[rows], differences[rows])

    def _add_domain(
        self,
        name: str,
        teacher_R: NDArray[np.float64],
        reference_R: NDArray[np.float64],
        differences_R: NDArray[np.float64],
    ) -> None:
        if name not in self._places:
            self._places[name] = len(self._places)
            self._sums_D6 = np.vstack([self._sums_D6, np.zeros(6)])
            self._origins_D = np.append(self._origins_D, differences_R[0])
        place = self._places[name]
        centred = differences_R - self._origins_D[place]
        self._sums_D6[place] += (
            len(centred), -teacher_R.sum(), -reference_R.sum(), centred.sum(), centred @ centred,
            np.count_nonzero(differences_R < 0),
        )  # fmt: skip

    def lead(self) -> Lead:
        """The lead in the domains that have rows."""
        counts_D, teacher_D, reference_D, centred_D, squares_D, behind_D = self._sums_D6.T
        offsets_D = centred_D / np.maximum(counts_D, 1)
        within_D = np.maximum(squares_D - counts_D * offsets_D**2, 0)
        means_D = self._origins_D + offsets_D
        lines = [
            DomainLead(
                domain=name,
                num_rows=int(counts_D[place]),
                teacher=float(teacher_D[place] / counts_D[place]),
                reference=float(reference_D[place] / counts_D[place]),
                deviation=float(np.sqrt(within_D[place] / counts_D[place])),
                behind=float(behind_D[place] / counts_D[place]),
            )
            for name, place in sorted(self._places.items())
        ]
        overall = counts_D @ means_D / max(1.0, counts_D.sum())
        between = counts_D @ (means_D - overall) ** 2
        total = between + within_D.sum()
        return Lead(tuple(lines), float(between / total) if total > 0 else 0.0)


def read_lead(
    shards_folder: Path, teacher_folder: Path, reference_folder: Path, normalization: Normalization
) -> Lead:
    """The lead on scored candidates, a block of rows in memory at a time.

    Raises:
        ArtefactError: A table is missing or damaged, or belongs to other shards.
    """
    sums = LeadSums()
    for shard in scored_shards(shards_folder, teacher_folder, reference_folder, normalization):
        for block in shard.open().blocks(described=True):
            _add_block(sums, block)
    return sums.lead()


def _add_block(sums: LeadSums, block: Block) -> None:
    sums.add(block.teacher, block.reference, block.domains, block.domain_numbers)
