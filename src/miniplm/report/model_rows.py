"""What the stages of a run say of its models: compute, and held-out text."""

from collections import Counter

from miniplm.evaluation.averages import AVERAGE
from miniplm.evaluation.documents import DOCUMENTS_NAME, read_documents
from miniplm.report.model_content import HeldOutRow, ModelRow, Role
from miniplm.report.run_record import RunRecord


def model_rows(record: RunRecord) -> list[ModelRow]:
    """One row per model: teacher, reference, students."""
    return [_model_row(record, name, role) for name, role in record.roles.items()]


def _model_row(record: RunRecord, name: str, role: Role) -> ModelRow:
    trained = record.manifests.get(f"train/{name}")
    average = next(line for line in record.held_out_lines(name) if line["domain"] == AVERAGE)
    preparation = _preparation_flops(record, name)
    shared = _preparation_flops(record, name, shared=True)
    return ModelRow(
        name=name,
        role=role,
        origin=record.run.origins[name],
        num_params=trained.facts["num_params"] if trained else None,
        num_tokens_trained=trained.num_tokens if trained else None,
        tokens_per_param=trained.facts["tokens_per_param"] if trained else None,
        held_out_loss=average["loss"],
        bits_per_byte=average["bits_per_byte"],
        training_flops=trained.flops if trained else None,
        preparation_flops=preparation if trained else None,
        shared_preparation_flops=shared if trained else None,
        training_seconds=trained.seconds if trained else None,
    )


def _preparation_flops(record: RunRecord, name: str, *, shared: bool = False) -> float:
    """FLOPs of the stages that a student builds on, or its part of them."""
    foundations = record.run.foundations
    users = Counter(stage for stages in foundations.values() for stage in stages)
    return sum(
        (record.manifests[stage].flops or 0.0) / (users[stage] if shared else 1)
        for stage in foundations.get(name, ())
    )


def held_out_rows(record: RunRecord) -> list[HeldOutRow]:
    """One row per domain, and the averages, with the figures of every model.

    Raises:
        ArtefactError: The sums of documents of the first model are missing, or no domain is left
            to average over.
    """
    by_model = {
        name: {line["domain"]: line for line in record.held_out_lines(name)}
        for name in record.roles
    }
    name, first = next(iter(by_model.items()))
    digests = read_documents(record.run.run_dir / "evaluate" / name / DOCUMENTS_NAME).digests()
    return [
        HeldOutRow(
            domain=domain,
            num_bytes=first[domain]["num_bytes"],
            loss={name: lines[domain]["loss"] for name, lines in by_model.items()},
            bits_per_byte={
                name: lines[domain]["bits_per_byte"] for name, lines in by_model.items()
            },
            set_apart=first[domain].get("set_apart", False),
            documents_digest=digests.get(domain),
        )
        for domain in first
    ]
