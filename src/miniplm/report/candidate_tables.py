"""Near-duplicates among the candidates, and groups of them, as the page shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from miniplm.manifest import Manifest
from miniplm.selection.group_tables import group_name

_TYPICAL = 6
"""N-grams shown of a group."""


@dataclass(frozen=True)
class DuplicatesRow:
    """Near-duplicates of one domain: rows in clusters, and those beyond one of each cluster."""

    domain: str
    num_sequences: int
    in_clusters: int
    redundant: int

    @property
    def redundant_share(self) -> float:
        """Of the domain's rows."""
        return self.redundant / self.num_sequences


@dataclass(frozen=True)
class ClusterRow:
    """One of the largest clusters: rows of each domain, and how the first of them begins."""

    size: int
    domains: str
    example: str


@dataclass(frozen=True)
class NearDuplicates:
    """What was found, and whether it was left out before scoring.

    `similarity` is the Jaccard similarity of sets of `ngram` token ids from which on rows count;
    `recall` is the share of the pairs of just this similarity that such a search finds.
    """

    num_sequences: int
    num_clusters: int
    in_clusters: int
    redundant: int
    similarity: float
    ngram: int
    recall: float
    left_out: bool
    domains: Sequence[DuplicatesRow]
    largest: Sequence[ClusterRow]


@dataclass(frozen=True)
class GroupRow:
    """A group: its rows, the n-grams that mark it, and the share that each selection keeps."""

    name: str
    num_sequences: int
    typical: Sequence[str]
    kept: Sequence[float]


@dataclass(frozen=True)
class CandidateTables:
    """Both, where the run has them; `selections` are the names behind `GroupRow.kept`."""

    near_duplicates: NearDuplicates | None = None
    groups: Sequence[GroupRow] = ()
    selections: Sequence[str] = ()


def candidate_tables(
    manifests: Mapping[str, Manifest], selections: Sequence[str]
) -> CandidateTables:
    """Gather them.

    Args:
        manifests: Of all stages, by name.
        selections: Names of the selections, in order.
    """
    duplicates, grouped = manifests.get("duplicates"), manifests.get("group")
    left_out = "distinct" in manifests
    return CandidateTables(
        near_duplicates=_near_duplicates(duplicates, left_out) if duplicates else None,
        groups=_groups(manifests, grouped, selections) if grouped else (),
        selections=selections,
    )


def _near_duplicates(manifest: Manifest, left_out: bool) -> NearDuplicates:
    counts, facts, config = manifest.counts, manifest.facts, manifest.config
    domains = [
        DuplicatesRow(name, each["num_sequences"], each["in_clusters"], each["redundant"])
        for name, each in facts["domains"].items()
        if each["in_clusters"]
    ]
    return NearDuplicates(
        num_sequences=counts["sequences"],
        num_clusters=counts["clusters"],
        in_clusters=counts["in_clusters"],
        redundant=counts["redundant"],
        similarity=config["similarity"],
        ngram=config["ngram"],
        recall=facts["recall_at_similarity"],
        left_out=left_out,
        domains=sorted(domains, key=lambda row: (-row.redundant, row.domain)),
        largest=[
            ClusterRow(each["size"], ", ".join(each["domains"]), each.get("example", ""))
            for each in facts["largest"]
        ],
    )


def _groups(
    manifests: Mapping[str, Manifest], grouped: Manifest, selections: Sequence[str]
) -> list[GroupRow]:
    kept = [manifests[f"describe/{name}"].facts["groups"] for name in selections]
    rows = []
    for group in grouped.facts["groups"]:
        name = group_name(group["group"])
        of_selections = [facts.get(name) for facts in kept]
        rows.append(
            GroupRow(
                name=name,
                num_sequences=group["num_sequences"],
                typical=group.get("text", [])[:_TYPICAL],
                kept=[
                    each["num_counted"] / each["num_sequences"] if each else 0.0
                    for each in of_selections
                ],
            )
        )
    return rows
