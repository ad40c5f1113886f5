"""Any text as an evaluation set: document by document, without packing.

The figures are those of held-out text (`evaluation.summary`), with intervals over documents.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from miniplm.data.documents import CorpusConfig, read_documents
from miniplm.data.records import Document, DocumentTally
from miniplm.evaluation.averages import leaves_some
from miniplm.evaluation.bootstrap import NUM_RESAMPLES
from miniplm.evaluation.documents import DOCUMENTS_NAME, Documents
from miniplm.evaluation.summary import HeldOutScore, summarise
from miniplm.evaluation.text_scorer import TextScorer
from miniplm.manifest import Outcome
from miniplm.runtime.progress import progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from miniplm.scoring.scoring_model import ScoringModel

PARTS_FOLDER = "parts"
_BLOCK_CHARACTERS = 1 << 20
_LONGEST_WINDOW = 2048
"""Tokens of a window, where nothing is said and the model serves more."""


@dataclass(frozen=True)
class MeasuredText:
    """What a model makes of some text.

    Args:
        lines: Per domain and averaged, with intervals.
        documents: The sums of every document.
    """

    lines: list[HeldOutScore]
    documents: Documents


def measure_texts(
    scorer: "ScoringModel",
    tokenizer: "PreTrainedTokenizerBase",
    text: CorpusConfig,
    *,
    length: int | None = None,
    stride: int | None = None,
    set_apart: Sequence[str] = (),
    folder: Path | None = None,
) -> MeasuredText:
    """Measure a model on text, without a recipe.

    Args:
        scorer: The model, on its device.
        tokenizer: Its tokenizer.
        text: The files; domains come from their names unless it says otherwise.
        length: Tokens of a window; what the model serves, 2,048 at most, if not given.
        stride: Tokens from one window to the next; side by side if not given.
        set_apart: Globs of domains that averages leave out.
        folder: Keeps what is done, block by block, so that it can be gone on with; it has to be
            of this model, this text and these settings.

    Raises:
        ConfigError: The stride is longer than a window.
        DocumentError: The text cannot be read.
        ArtefactError: It holds no token that can be predicted.
        ModelError: The model does not fit the tokenizer or the length.
    """
    texts = TextScorer(scorer, tokenizer, length or window_of(scorer), stride)
    documents = Documents.of_pieces(_score(texts, text, folder, DocumentTally()))
    return MeasuredText(_summary(documents, set_apart), documents)


def window_of(scorer: "ScoringModel") -> int:
    """Tokens of a window, where nothing is said: what the model serves, 2,048 at most."""
    served = getattr(scorer.model.config, "max_position_embeddings", None) or _LONGEST_WINDOW
    return min(served, _LONGEST_WINDOW)


def evaluate_texts(
    texts: TextScorer,
    corpora: Mapping[str, CorpusConfig],
    folder: Path,
    set_apart: Sequence[str] = (),
) -> Outcome:
    """The stage: each text in `folder/<name>/documents.parquet`, and tables in the manifest.

    What a stage that was killed had done is kept. Raises what `measure_texts` raises.

    Args:
        texts: The model.
        corpora: Texts by name.
        folder: Where the sums go.
        set_apart: Globs of domains that averages leave out.
    """
    facts: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    num_positions = num_tokens = 0
    for name, corpus in corpora.items():
        tally = DocumentTally()
        scored = _score(texts, corpus, folder / name, tally)
        documents = Documents.of_pieces(scored)
        documents.write(folder / name / DOCUMENTS_NAME)
        facts[name] = [asdict(line) for line in _summary(documents, set_apart)]
        counts[name] = {"documents": tally.num_documents, "dropped": tally.dropped}
        num_positions += int(scored["num_positions"].sum())
        num_tokens += int(scored["num_tokens"].sum())
    return Outcome(
        counts={"documents": sum(each["documents"] for each in counts.values()), "texts": counts},
        num_tokens=num_tokens,
        flops=num_positions * texts.flops_per_token,
        facts={
            "texts": facts,
            "origins": {name: corpus.origin for name, corpus in corpora.items()},
            "unit": "documents",
            "num_resamples": NUM_RESAMPLES,
        },
        obsolete=tuple(f"{name}/{PARTS_FOLDER}" for name in corpora),
    )


def _score(
    texts: TextScorer, corpus: CorpusConfig, folder: Path | None, tally: DocumentTally
) -> pl.DataFrame:
    """The sums of all documents; blocks that are in the folder are not scored again."""
    tables = []
    with progress(f"measure {texts.scorer.name}", None, "documents") as advance:
        for number, block in enumerate(_blocks(read_documents(corpus, tally))):
            part = folder / PARTS_FOLDER / f"{number}.parquet" if folder else None
            if part is not None and part.exists():
                tables.append(pl.read_parquet(part))
            else:
                tables.append(texts.score(block))
                if part is not None:
                    Documents(tables[-1]).write(part)
            advance(len(block))
    return pl.concat(tables)


def _summary(documents: Documents, set_apart: Sequence[str]) -> list[HeldOutScore]:
    """The table; a text all of whose domains would be set apart is averaged whole."""
    names = documents.table["domain"].unique()
    return summarise(documents.table, set_apart if leaves_some(names, set_apart) else ())


def _blocks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Documents in groups of some size, the same whenever they are read."""
    block, size = [], 0
    for document in documents:
        block.append(document)
        size += len(document.text)
        if size >= _BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block
