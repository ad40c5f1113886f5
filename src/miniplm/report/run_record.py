"""A run as the report sees it: what it consists of, and what its stages left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from miniplm.evaluation.averages import AVERAGES, lines_over
from miniplm.manifest import Manifest, require_manifest
from miniplm.report.model_content import Role
from miniplm.runtime.log import logger
from miniplm.scoring.proxy_config import ProxyConfig
from miniplm.selection.config import SelectionConfig
from miniplm.study.config import StudyConfig

_SCORERS: Mapping[str, Role] = {"teacher": "teacher", "reference": "reference"}


@dataclass(frozen=True)
class RunFiles:
    """A run as the report sees it: a folder, and what is in it.

    Args:
        run_dir: The run's folder; a stage's output is in the folder of its name.
        candidates: Folder of the token shards that are scored.
        title: Of the page.
        stages: Names of all stages but the report, in order.
        origins: Where each model comes from, in a few words: teacher, reference, then students.
        selections: Refined corpora by name.
        foundations: For each student, the stages whose compute its training builds on.
        recipe_yaml: The recipe, to be shown.
        groups: Students that are compared with each other, the baseline first; if it is empty, all
            are.
        tokenizers: The tokenizer that each model reads, by any name; losses of a token compare
            where it is the same.
        proxy: What predicts most of the teacher's scores, if anything does.
        study: Its methods, sizes and seeds, if the run has one.
    """

    run_dir: Path
    candidates: Path
    title: str
    stages: Sequence[str]
    origins: Mapping[str, str]
    selections: Mapping[str, SelectionConfig]
    recipe_yaml: str
    foundations: Mapping[str, Sequence[str]] = field(default_factory=dict)
    groups: Sequence[Sequence[str]] = ()
    tokenizers: Mapping[str, str] = field(default_factory=dict)
    proxy: ProxyConfig | None = None
    study: StudyConfig | None = None

    @property
    def students(self) -> list[str]:
        """Names of the students, in order; the first is the baseline."""
        return [name for name in self.origins if name not in _SCORERS]


class RunRecord:
    """The manifests of a run whose stages are complete.

    Args:
        run: What it consists of.

    Attributes:
        manifests: By stage, in order.
        roles: By model, in order.

    Raises:
        StageNotReadyError: A stage has not finished.
    """

    def __init__(self, run: RunFiles) -> None:
        self.run = run
        self.manifests: dict[str, Manifest] = {
            name: require_manifest(run.run_dir / name, f"Run `miniplm {stage_kind(name)}` first.")
            for name in run.stages
        }
        self.roles: dict[str, Role] = {name: _SCORERS.get(name, "student") for name in run.origins}

    def held_out_lines(self, model: str) -> list[dict[str, Any]]:
        """What a model's evaluation says of each domain, and of all.

        A domain in which some model has nothing to predict (another tokenizer leaves its text too
        short) is left out, of the averages too.

        Raises:
            ArtefactError: No domain is left to average over.
        """
        lines = self._measured(model)
        if {line["domain"] for line in lines} - set(AVERAGES) <= self._common_domains:
            return lines
        return lines_over(lines, self._common_domains)

    def _measured(self, model: str) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = self.manifests[f"evaluate/{model}"].facts["held_out"]
        return lines

    @cached_property
    def _common_domains(self) -> set[str]:
        """Domains of which every model has figures; others are logged."""
        by_model = {
            name: {line["domain"] for line in self._measured(name)} - set(AVERAGES)
            for name in self.roles
        }
        for domain in sorted(set.union(*by_model.values())):
            if lacking := [name for name, domains in by_model.items() if domain not in domains]:
                logger.warning(
                    "held-out domain %s is left out of the report: %s has nothing to predict in it",
                    domain,
                    ", ".join(lacking),
                )
        return set.intersection(*by_model.values())

    @property
    def domains_apart(self) -> set[str]:
        """Domains of the held-out text that are left out of averages."""
        lines = self.held_out_lines(next(iter(self.roles)))
        return {line["domain"] for line in lines if line.get("set_apart")}


def stage_kind(stage: str) -> str:
    """The first part of a stage's name, such as `export` of `export-jsonl/refined`."""
    return stage.partition("/")[0].partition("-")[0]
