"""How far students are from the baseline of their group, document by document."""

from collections.abc import Sequence

from miniplm.errors import ArtefactError
from miniplm.evaluation.averages import AVERAGE
from miniplm.evaluation.difference import Difference
from miniplm.evaluation.documents import DOCUMENTS_NAME, Documents, read_documents
from miniplm.evaluation.paired import paired_documents
from miniplm.report.run_record import RunRecord
from miniplm.runtime.log import logger


def differences_of(record: RunRecord, groups: Sequence[Sequence[str]]) -> dict[str, Difference]:
    """Of each student from the first of its group: bits per byte, averaged over domains.

    Students whose tokenizers leave too different a part of short documents unpredicted have none.

    Raises:
        ArtefactError: The sums of documents of a model are missing.
    """
    found = {}
    for group in groups:
        baseline = next(iter(group), None)
        for student in group[1:]:
            pair = _documents(record, student), _documents(record, str(baseline))
            try:
                found[student] = paired_documents([pair], record.domains_apart)[AVERAGE]
            except ArtefactError as error:
                logger.warning("no interval for %s less %s: %s", student, baseline, error)
    return found


def _documents(record: RunRecord, model: str) -> Documents:
    return read_documents(record.run.run_dir / "evaluate" / model / DOCUMENTS_NAME)
