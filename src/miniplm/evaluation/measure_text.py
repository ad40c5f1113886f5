"""Language modelling of several models on any text, with one command and no recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from miniplm.config import validate
from miniplm.data.documents import CorpusConfig, corpus_fingerprint
from miniplm.errors import ConfigError
from miniplm.evaluation.averages import AVERAGE, AVERAGES, domains_apart, leaves_some
from miniplm.evaluation.difference import Difference
from miniplm.evaluation.documents import DOCUMENTS_NAME, read_documents
from miniplm.evaluation.measure import SUPERSEDED, add_results
from miniplm.evaluation.measured_models import MeasuredModel
from miniplm.evaluation.paired import paired_documents
from miniplm.evaluation.summary import HeldOutScore
from miniplm.manifest import Outcome, StageSpec, require_manifest
from miniplm.model import Dtype, released_config
from miniplm.runtime.log import logger
from miniplm.stage_runner import run_stage

if TYPE_CHECKING:
    pass

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
    fields: Mapping[str, str | None],
    dtype: Dtype,
    window: int | None,
    stride: int | None,
    set_apart: Sequence[str],
) -> TextQuestion:
    """The question of a command, checked.

    Args:
        paths: Files, folders or globs.
        fields: Of JSON lines: `text_field`, and `domain_field`, which names the domain; without it
            each file is one.
        dtype: As in the question, and so are the others.
        window: Tokens of a window.
        stride: From one window to the next.
        set_apart: Globs of domains.

    Raises:
        ConfigError: A value is wrong, or there is no such file.
    """
    named = {name: field for name, field in fields.items() if field}
    if "domain_field" in named:
        named["domain_from"] = "field"
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
        ConfigError: The stride is longer than a window, the window than a model serves, or every
            domain is set apart.
        DocumentError: The text cannot be read.
        ArtefactError: It holds no token that can be predicted.
        ModelError: A model cannot be read.
    """
    for model in models:
        _check_window(model, question.window)
    lines = {model.name: _measure(model, question, folder) for model in models}
    _check_apart(lines[models[0].name], question.set_apart)
    content = {name: [vars(line) for line in own] for name, own in lines.items()}
    add_results(folder, KIND, content)
    return MeasuredTexts(lines, _differences(models, lines, folder))


def _check_window(model: MeasuredModel, window: int | None) -> None:
    served = getattr(released_config(model.config), "max_position_embeddings", None)
    if window is not None and served is not None and window > served:
        raise ConfigError(
            "--window", [f"is {window:,}, but {model.name} serves {served:,}; give that or less"]
        )


def _check_apart(lines: Sequence[HeldOutScore], globs: Sequence[str]) -> None:
    domains = [line.domain for line in lines if line.domain not in AVERAGES]
    named = ", ".join(domains)
    if not leaves_some(domains, globs):
        raise ConfigError(
            "--set-apart", [f"matches every domain of the text ({named}); leave some out"]
        )
    for glob in globs:
        if leaves_some(domains, [glob]) and not domains_apart(domains, [glob]):
            logger.warning("--set-apart %s matches no domain; there are %s", glob, named)


def _measure(model: MeasuredModel, question: TextQuestion, folder: Path) -> list[HeldOutScore]:
    place = folder / KIND / model.folder_name

    def work(into: Path) -> Outcome:
        from miniplm.evaluation.text_scorer import TextScorer
        from miniplm.evaluation.texts import evaluate_texts, window_of

        logger.info("%s: text", model.name)
        scorer = model.load(question.dtype)
        length = question.window or window_of(scorer)
        _check_stride(model, length, question.stride)
        texts = TextScorer(scorer, model.tokenizer(), length, question.stride)
        return evaluate_texts(texts, {KIND: question.text}, into, question.set_apart)

    run_stage(place, _spec(model, question), work, set_aside=folder / SUPERSEDED)
    manifest = require_manifest(place, "Measure again.")
    return [HeldOutScore(**line) for line in manifest.facts["texts"][KIND]]


def _check_stride(model: MeasuredModel, length: int, stride: int | None) -> None:
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
