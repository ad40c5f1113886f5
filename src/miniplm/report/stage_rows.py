"""What the stages of a run took, and what they left out."""

from collections import defaultdict

from miniplm.manifest import Manifest
from miniplm.report.content import StageRow
from miniplm.report.run_record import RunRecord, stage_kind

_SHARES = {
    "score": "scoring",
    "diagnose": "diagnosis",
    "capture": "capturing",
    "generate": "generating",
    "evaluate": "evaluation",
    "tasks": "evaluation",
    "texts": "evaluation",
}
"""What the FLOPs of a stage are shown under; training goes by the model's role."""
_COUNTED = {"study": "students", "texts": "documents"}
"""What a stage's summary counts, if not sequences."""


def stage_rows(record: RunRecord) -> list[StageRow]:
    """One row per stage, in order."""
    return [
        StageRow(
            name=name,
            kind=stage_kind(name),
            seconds=manifest.seconds,
            num_tokens=manifest.num_tokens,
            flops=manifest.flops,
            summary=_summary(manifest),
        )
        for name, manifest in record.manifests.items()
    ]


def _summary(manifest: Manifest) -> str:
    kind, counts = stage_kind(manifest.stage), manifest.counts
    if kind == "tokenize":
        splits = manifest.facts["splits"]
        parts = [f"{split} {values['num_sequences']:,}" for split, values in splits.items()]
        read = f"{counts['documents']:,} documents" if counts["documents"] else "token shards"
        return f"{read} to sequences: {', '.join(parts)}"
    if kind == "train":
        return f"{counts['steps']:,} steps, {manifest.facts['epochs']:.2f} epochs"
    if kind == "select":
        return f"kept {counts['kept']:,} of {counts['sequences']:,} sequences"
    if kind == "tasks":
        return f"{counts['items']:,} items of {counts['tasks']} tasks"
    counted = _COUNTED.get(kind, "sequences")
    return f"{counts[counted]:,} {counted}"


def flops_by_share(record: RunRecord) -> dict[str, float]:
    """FLOPs by what they served."""
    shares: defaultdict[str, float] = defaultdict(float)
    for name, manifest in record.manifests.items():
        kind, _, instance = name.partition("/")
        if kind == "train":
            role = record.roles.get(instance, "diagnosis")
            shares["students" if role == "student" else role] += manifest.flops
        elif kind in _SHARES:
            shares[_SHARES[kind]] += manifest.flops
    return dict(shares)


def left_out(record: RunRecord) -> dict[str, int]:
    """How much was left out, by reason."""
    tokenize = record.manifests["tokenize"].counts
    dropped = {f"documents: {why}": count for why, count in tokenize["dropped"].items()}
    if tokenize["dropped_ids"]:
        dropped["tokens: too short a rest at the end of a domain"] = tokenize["dropped_ids"]
    for name in record.run.selections:
        counts = record.manifests[f"select/{name}"].counts
        if counts["not_comparable"]:
            dropped[f"sequences: nothing to compare ({name})"] = counts["not_comparable"]
    for name, manifest in record.manifests.items():
        if stage_kind(name) == "retokenize" and (cut := manifest.counts.get("cut_ids")):
            dropped[f"tokens: rows that became too long ({name})"] = cut
    return dropped
