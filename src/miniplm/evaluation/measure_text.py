"""Language modelling of several models on any text, with one command and no recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miniplm.config import validate
from miniplm.data.documents import CorpusConfig, corpus_fingerprint
from miniplm.errors import ConfigError
from miniplm.evaluation.averages import AVERAGE
from miniplm.evaluation.difference import Difference
from miniplm.evaluation.documents import DOCUMENTS_NAME, read_documents
from miniplm.evaluation.measure import SUPERSEDED, add_results
from miniplm.evaluation.measured_models import MeasuredModel, short_names
from miniplm.evaluation.paired import paired_documents
from miniplm.evaluation.summary import HeldOutScore
from miniplm.manifest import Outcome, StageSpec, require_manifest
from miniplm.model import Dtype
from miniplm.runtime.log import logger
from miniplm.stage_runner import run_stage

if TYPE_CHECKING:
    from miniplm.scoring.scoring_model import ScoringModel

KIND = "text"
_FORMAT = 1
"""Raised when the same text would from now on be measured in another way."""


@dataclass(frozen=True)
class TextQuestion:
    """What is asked of models.

    Args:
        text: The files, document by document.
        dtype: That the models compute in.
        window: Tokens of a window; what a model serves, 2,048 at most, if not given.
        stride: Tokens from one window to the next; side by side if not given.
        set_apart: Globs of domains that averages leave out.
    """

    text: CorpusConfig
    dtype: Dtype = "float32"
    window: int | None = None
    stride: int | None = None
    set_apart: tuple[str, ...] = ()


def text_question(
    paths: Sequence[str],
    domain_field: str | None,
    dtype: Dtype,
    window: int | None,
    stride: int | None,
    set_apart: Sequence[str],
) -> TextQuestion:
    """The question of a command, checked.

    Args:
        paths: Files, folders or globs.
        domain_field: Field of JSON lines that names the domain; domains are files without it.
        dtype: As in the question, and so are the others.
        window: Tokens of a window.
        stride: From one window to the next.
        set_apart: Globs of domains.

    Raises:
        ConfigError: A value is wrong, or there is no such file.
    """
    named = {"domain_from": "field", "domain_field": domain_field} if domain_field else {}
    content = {"source": "files", "paths": list(paths), **named}
    text = validate(CorpusConfig, content, "measure")
    corpus_fingerprint(text)
    if window is not None and stride is not None and stride > window:
        raise ConfigError(
            "--stride", [f"is {stride}, more than the {window} tokens of a window; give less"]
        )
    return TextQuestion(text, dtype, window, stride, tuple(set_apart))


@dataclass(frozen=True)
class MeasuredTexts:
    """What models make of a text.

    Args:
        lines: By model: per domain and averaged, with intervals over documents.
        differences: Of every model but the first from it, averaged over domains.
    """

    lines: Mapping[str, Sequence[HeldOutScore]]
    differences: Mapping[str, Difference]


def measure_text(
    models: Sequence[MeasuredModel], question: TextQuestion, folder: Path
) -> MeasuredTexts:
    """Measure models on text; one that was measured already is skipped.

    Args:
        models: Each once.
        question: Which text, and how.
        folder: Of all measurements.

    Raises:
        ConfigError: The stride is longer than a window.
        DocumentError: The text cannot be read.
        ArtefactError: It holds no token that can be predicted.
        ModelError: A model cannot be read.
    """
    lines = {model.name: _measure(model, question, folder) for model in models}
    content = {name: [vars(line) for line in own] for name, own in lines.items()}
    add_results(folder, KIND, content)
    return MeasuredTexts(lines, _differences(models, lines, folder))


def _measure(model: MeasuredModel, question: TextQuestion, folder: Path) -> list[HeldOutScore]:
    place = folder / KIND / model.folder_name

    def work(into: Path) -> Outcome:
        from miniplm.evaluation.text_scorer import TextScorer
        from miniplm.evaluation.texts import evaluate_texts, window_of

        logger.info("%s: text", model.name)
        scorer = model.load(question.dtype)
        length = question.window or window_of(scorer)
        _check_window(model, scorer, length, question.stride)
        texts = TextScorer(scorer, model.tokenizer(), length, question.stride)
        return evaluate_texts(texts, {KIND: question.text}, into, question.set_apart)

    run_stage(place, _spec(model, question), work, set_aside=folder / SUPERSEDED)
    manifest = require_manifest(place, "Measure again.")
    return [HeldOutScore(**line) for line in manifest.facts["texts"][KIND]]


def _check_window(
    model: MeasuredModel, scorer: "ScoringModel", length: int, stride: int | None
) -> None:
    served = getattr(scorer.model.config, "max_position_embeddings", None) or length
    if length > served:
        raise ConfigError(
            "--window", [f"is {length}, but {model.name} serves {served} positions; give less"]
        )
    if stride is not None and stride > length:
        raise ConfigError(
            "--stride", [f"is {stride}, more than the {length} tokens of a window of {model.name}"]
        )


def _spec(model: MeasuredModel, question: TextQuestion) -> StageSpec:
    settings = {
        "text": question.text.fingerprinted(),
        "dtype": question.dtype,
        "window": question.window,
        "stride": question.stride,
        "set_apart": list(question.set_apart),
        "format": _FORMAT,
    }
    inputs = {
        "model": model.config.origin_fingerprint,
        "text": corpus_fingerprint(question.text),
    }
    return StageSpec(f"{KIND}/{model.folder_name}", settings, inputs)


def _differences(
    models: Sequence[MeasuredModel], lines: Mapping[str, Sequence[HeldOutScore]], folder: Path
) -> dict[str, Difference]:
    first, *others = models
    measured = {
        model.name: read_documents(folder / KIND / model.folder_name / KIND / DOCUMENTS_NAME)
        for model in models
    }
    apart = [
        line.domain for line in lines[first.name] if line.set_apart and line.domain in
        set(measured[first.name].table["domain"])
    ]  # fmt: skip
    return {
        other.name: paired_documents([(measured[other.name], measured[first.name])], apart)[AVERAGE]
        for other in others
    }


def text_lines(found: MeasuredTexts) -> list[list[str]]:
    """Lines of words, headings first: bits per byte with intervals, a domain each."""
    names = list(found.lines)
    lines = [["domain", "documents", *short_names(names)]]
    by_domain = [{line.domain: line for line in own} for own in found.lines.values()]
    for domain, line in by_domain[0].items():
        cells = [_cell(own[domain]) for own in by_domain]
        lines.append([domain, f"{line.num_documents:,}", *cells])
    if found.differences:
        first = short_names(names)[0]
        cells = [_difference_cell(each) for each in found.differences.values()]
        lines.append([f"{AVERAGE}, less {first}", "", "", *cells])
    return lines


def _cell(line: HeldOutScore) -> str:
    interval = "" if line.low is None else f" [{line.low:.4f}, {line.high:.4f}]"
    return f"{line.bits_per_byte:.4f}{interval}"


def _difference_cell(found: Difference) -> str:
    interval = "" if found.low is None else f" [{found.low:+.4f}, {found.high:+.4f}]"
    return f"{found.value:+.4f}{interval}"
