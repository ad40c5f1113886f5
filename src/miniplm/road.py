"""The road of a recipe: which stages it has, in which order, and what each depends on.

A `Step` ties a stage's spec (from which follows whether its output still holds) to the function
that does the work. Fingerprints are chained: a step's spec names the fingerprints of the steps it
reads, so that changing one field redoes exactly what depends on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from miniplm.data.documents import corpus_fingerprint
from miniplm.data.tokenization import TOKENIZER_FOLDER, TokenizationConfig, tokenize_corpus
from miniplm.errors import ConfigError
from miniplm.export.config import TextForm
from miniplm.export.exporter import SHARDS_FOLDER, export_corpus
from miniplm.manifest import Outcome, StageSpec, is_complete
from miniplm.model import Dtype, ModelConfig, load_model
from miniplm.recipe import CANDIDATES, Recipe, ScorerConfig, StudentConfig
from miniplm.training.config import TAUGHT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from miniplm.report.collect import RunFiles
    from miniplm.scoring.scorer import ScoringModel
    from miniplm.training.config import TrainingConfig
    from miniplm.training.inputs import TrainInputs

TEXT = "text"
PAGE_FORMAT = 3
"""Raised when the page says more from the same results."""


@dataclass(frozen=True)
class Step:
    """One stage of a run.

    Args:
        folder: Where it writes.
        spec: What its output depends on.
        needs: The steps it reads.
        work: Does it, given the folder.
    """

    folder: Path
    spec: StageSpec
    needs: tuple["Step", ...]
    work: Callable[[Path], Outcome] = field(repr=False)

    @property
    def name(self) -> str:
        """Such as `score/teacher`."""
        return self.spec.name

    @property
    def kind(self) -> str:
        """The subcommand that runs it."""
        first = self.name.partition("/")[0]
        return "export" if first == TEXT else first

    @property
    def instance(self) -> str:
        """What it works on, such as `teacher`; empty where there is one only."""
        return self.name.partition("/")[2]

    @property
    def is_complete(self) -> bool:
        """Whether its output is there and still what the recipe asks for."""
        return is_complete(self.folder, self.spec)


@dataclass(frozen=True)
class _Corpus:
    """Token shards to train on, or to take prompts from.

    `step` makes them, and `words` say what they are.
    """

    step: Step
    shards: Path
    words: str


class Road:
    """All steps of a recipe, in an order in which each comes after what it needs."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.run_dir = Path(recipe.run_dir).expanduser()
        self.steps: list[Step] = []
        self._tokenize = self._add_tokenize()
        self._models = {
            role: self._add_scorer(role, getattr(recipe, role)) for role in ("teacher", "reference")
        }
        self._scores = {role: self._add_score(role) for role in self._models}
        self._corpora = {CANDIDATES: self._candidates()}
        self._corpora |= {name: self._add_selection(name) for name in recipe.selections}
        self._corpora |= {name: self._add_generation(name) for name in recipe.generations}
        self._captures = {name: self._add_capture(name) for name in recipe.captures}
        for name, student in recipe.students.items():
            self._models[name] = self._add_student(name, student)
        evaluations = [self._add_evaluation(name) for name in self._models]
        self._add_report(evaluations)

    def step(self, name: str) -> Step:
        """The step of this name.

        Raises:
            ConfigError: There is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        names = ", ".join(step.name for step in self.steps)
        raise ConfigError("the recipe", [f"has no step {name!r}; it has {names}"])

    def foundations(self, student: str) -> list[str]:
        """Names of the steps whose compute a student's training builds on, in order.

        The teacher's own training is not among them: ordinarily a teacher is there already.
        """
        found: set[str] = set()
        todo = list(self.step(f"train/{student}").needs)
        while todo:
            step = todo.pop()
            if step.name not in found and step.name != "train/teacher":
                found.add(step.name)
                todo += step.needs
        return [step.name for step in self.steps if step.name in found]

    def _add(
        self,
        name: str,
        config: dict[str, object],
        needs: dict[str, Step],
        work: Callable[[Path], Outcome],
        inputs: dict[str, str] | None = None,
    ) -> Step:
        """Add a step; `inputs` are fingerprints besides, or instead of, those of `needs`."""
        chained = {role: step.spec.fingerprint for role, step in needs.items()}
        step = Step(
            folder=self.run_dir / name,
            spec=StageSpec(name, config, {**chained, **(inputs or {})}),
            needs=tuple(needs.values()),
            work=work,
        )
        self.steps.append(step)
        return step

    def _add_tokenize(self) -> Step:
        recipe = self.recipe
        inputs = {"corpus": corpus_fingerprint(recipe.corpus)}
        if recipe.held_out_corpus:
            inputs["held_out_corpus"] = corpus_fingerprint(recipe.held_out_corpus)
        if recipe.tokenizer.name:
            origin = ModelConfig(name=recipe.tokenizer.name).origin_fingerprint
            inputs["tokenizer"] = origin
        sections = ("corpus", "held_out_corpus", "splits", "tokenizer", "packing", "seed")
        fingerprinted = recipe.fingerprinted()
        config = TokenizationConfig(
            corpus=recipe.corpus,
            splits=recipe.splits,
            tokenizer=recipe.tokenizer,
            packing=recipe.packing,
            seed=recipe.seed,
            held_out_corpus=recipe.held_out_corpus,
        )
        step = self._add(
            "tokenize",
            {section: fingerprinted[section] for section in sections},
            {},
            lambda folder: tokenize_corpus(config, folder),
            inputs,
        )
        # text that is only evaluated on does not change the other splits
        other = [section for section in sections if section != "held_out_corpus"]
        self._splits = StageSpec(
            "tokenize",
            {section: fingerprinted[section] for section in other},
            {role: value for role, value in inputs.items() if role != "held_out_corpus"},
        ).fingerprint
        return step

    def _split(self, name: str) -> Path:
        return self._tokenize.folder / name

    @property
    def _tokenizer(self) -> Path:
        return self._tokenize.folder / TOKENIZER_FOLDER

    def _add_scorer(self, role: str, config: ScorerConfig) -> Step | None:
        """The training of a teacher or reference; None for a released one."""
        if config.training is None:
            return None
        training = config.training

        def given() -> "TrainInputs":
            from miniplm.training.inputs import TrainInputs

            return TrainInputs(
                corpora={self._split(role): 1.0},
                corpus=f"the {role} split",
                tokenizer=self._tokenizer,
                held_out=self._split("held_out"),
                held_out_sequences=self.recipe.evaluation.held_out_sequences_while_training,
            )

        needs = {"tokenize": self._tokenize}
        return self._add_training(role, config, training, given, needs, {"split": role})

    def _add_training(
        self,
        name: str,
        config: ModelConfig,
        training: "TrainingConfig",
        given: "Callable[[], TrainInputs]",
        needs: dict[str, Step],
        settings: dict[str, object],
    ) -> Step:
        """The training of a model on what is `given`; `settings` are its spec beside its shape."""
        recipe = self.recipe
        shape = config.model_dump(mode="json", include={"config_from", "shape"})
        inputs = {"origin": config.origin_fingerprint}
        if isinstance(config, ScorerConfig):
            inputs["tokenize"] = self._splits
        settings = {
            **shape,
            "seed": recipe.seed,
            "training": training.fingerprinted(),
            **settings,
        }

        def work(folder: Path) -> Outcome:
            from miniplm.training.student import train_model

            return train_model(name, config, training, given(), recipe.seed, folder)

        return self._add(f"train/{name}", settings, needs, work, inputs)

    def _add_student(self, name: str, config: StudentConfig) -> Step:
        """The training of a student; its needs follow from its corpora and its method."""
        recipe = self.recipe
        training = recipe.student_training(name)
        corpora = [(self._corpora[corpus], share) for corpus, share in config.corpora.items()]
        needs = {"tokenize": self._tokenize}
        needs |= {f"corpus/{corpus}": self._corpora[corpus].step for corpus in config.corpora}
        capture = self._captures.get(training.capture or "")
        if training.method == "sparse_kd" and capture:
            needs["capture"] = capture
        kind = training.reweighting.kind
        weighted = kind != "none"
        if weighted:
            roles = ["teacher"] if kind.startswith("dynamic") else ["teacher", "reference"]
            needs |= {f"score/{role}": self._scores[role] for role in roles}
        settings: dict[str, object] = {
            "corpora": config.corpora,
            # students are compared by their losses on held-out text along the way
            "held_out": recipe.evaluation.held_out_sequences_while_training,
        }
        taught = training.method in TAUGHT
        if taught:
            needs = self._with_model("teacher", needs)
            settings["teacher"] = self._model_identity("teacher")

        def given() -> "TrainInputs":
            from miniplm.training.inputs import TrainInputs
            from miniplm.training.scores import Role, ScoreTables

            folders: dict[Role, Path] = {
                "teacher": self._scores["teacher"].folder,
                "reference": self._scores["reference"].folder,
            }
            normalization = training.reweighting.normalization
            dtype: Dtype = training.precision
            return TrainInputs(
                corpora={corpus.shards: share for corpus, share in corpora},
                corpus=" and ".join(corpus.words for corpus, _ in corpora),
                tokenizer=self._tokenizer,
                held_out=self._split("held_out"),
                held_out_sequences=recipe.evaluation.held_out_sequences_while_training,
                scores=ScoreTables(folders, normalization) if weighted else None,
                captured=capture.folder if capture else None,
                teacher=(lambda: self._load("teacher", dtype)) if taught else None,
            )

        return self._add_training(name, config, training, given, needs, settings)

    def _add_score(self, role: str) -> Step:
        scoring = self.recipe.scoring

        def work(folder: Path) -> Outcome:
            from miniplm.scoring.scorer import score_shards

            scorer = self._load(role, scoring.dtype)
            return score_shards(
                scorer, self._split(CANDIDATES), self._token_bytes(), scoring, folder
            )

        return self._add(
            f"score/{role}",
            {"scoring": scoring.fingerprinted(), **self._model_identity(role)},
            self._with_model(role, {"tokenize": self._tokenize}),
            work,
            {"tokenize": self._splits},
        )

    def _candidates(self) -> _Corpus:
        return _Corpus(self._tokenize, self._split(CANDIDATES), "all candidates")

    def _add_selection(self, name: str) -> _Corpus:
        """Selection and export of one refined corpus."""
        recipe = self.recipe
        config = recipe.selections[name]
        needs = {"tokenize": self._tokenize, **self._scores}

        def select(folder: Path) -> Outcome:
            from miniplm.selection.selector import select_sequences

            teacher, reference = self._scores["teacher"].folder, self._scores["reference"].folder
            shards = self._split(CANDIDATES)
            return select_sequences(shards, teacher, reference, config, recipe.seed, folder)

        def export(folder: Path) -> Outcome:
            shards = self._split(CANDIDATES)
            return export_corpus(shards, selected.folder, folder)

        selected = self._add(
            f"select/{name}",
            {**config.fingerprinted(), "seed": recipe.seed},
            needs,
            select,
            {"tokenize": self._splits},
        )
        exported = self._add(
            f"export/{name}",
            {},
            {"tokenize": self._tokenize, "selection": selected},
            export,
            {"tokenize": self._splits},
        )
        if recipe.export.text is not None:
            self._add_text(name, exported, recipe.export.text)
        return _Corpus(exported, exported.folder / SHARDS_FOLDER, f"the refined corpus {name!r}")

    def _add_text(self, name: str, exported: Step, form: TextForm) -> None:
        """The text of a refined corpus."""

        def work(folder: Path) -> Outcome:
            from miniplm.export.text import export_text

            return export_text(exported.folder / SHARDS_FOLDER, self._tokenizer, form, folder)

        self._add(
            f"{TEXT}/{name}",
            {"form": form},
            {"tokenize": self._tokenize, "corpus": exported},
            work,
            {"tokenize": self._splits},
        )

    def _add_generation(self, name: str) -> _Corpus:
        """Text that the teacher writes."""
        recipe = self.recipe
        config = recipe.generations[name]
        prompts = self._corpora[config.prompts]

        def work(folder: Path) -> Outcome:
            from miniplm.generation.generator import generate_corpus

            scorer = self._load("teacher", recipe.scoring.dtype)
            return generate_corpus(
                scorer, prompts.shards, self._token_bytes(), config, folder, recipe.seed
            )

        step = self._add(
            f"generate/{name}",
            {
                **config.fingerprinted(),
                "dtype": recipe.scoring.dtype,
                "seed": recipe.seed,
                **self._model_identity("teacher"),
            },
            self._with_model("teacher", {"tokenize": self._tokenize, "corpus": prompts.step}),
            work,
            self._without_held_out(prompts),
        )
        return _Corpus(step, step.folder / SHARDS_FOLDER, f"text that the teacher wrote ({name!r})")

    def _add_capture(self, name: str) -> Step:
        """The teacher's probabilities beside a corpus."""
        recipe = self.recipe
        config, scoring = recipe.captures[name], recipe.scoring
        corpus = self._corpora[config.corpus]

        def work(folder: Path) -> Outcome:
            from miniplm.scoring.capture import capture_shards

            scorer = self._load("teacher", scoring.dtype)
            return capture_shards(scorer, corpus.shards, config, scoring, folder, recipe.seed)

        return self._add(
            f"capture/{name}",
            {
                **config.fingerprinted(),
                "dtype": scoring.dtype,
                "seed": recipe.seed,
                **self._model_identity("teacher"),
            },
            self._with_model("teacher", {"tokenize": self._tokenize, "corpus": corpus.step}),
            work,
            self._without_held_out(corpus),
        )

    def _without_held_out(self, corpus: _Corpus) -> dict[str, str]:
        """Fingerprints of what a step on a corpus reads, which is no held-out text."""
        candidates = corpus.step is self._tokenize
        fingerprint = self._splits if candidates else corpus.step.spec.fingerprint
        return {"tokenize": self._splits, "corpus": fingerprint}

    def _add_evaluation(self, name: str) -> Step:
        evaluation = self.recipe.evaluation

        def work(folder: Path) -> Outcome:
            from miniplm.evaluation.held_out import evaluate_model

            scorer = self._load(name, evaluation.dtype)
            return evaluate_model(
                scorer,
                self._split("held_out"),
                self._token_bytes(),
                folder,
                self.recipe.scoring.memory_gb,
            )

        return self._add(
            f"evaluate/{name}",
            {"dtype": evaluation.dtype, **self._model_identity(name)},
            self._with_model(name, {"tokenize": self._tokenize}),
            work,
        )

    def _add_report(self, evaluations: Sequence[Step]) -> None:
        def work(folder: Path) -> Outcome:
            from miniplm.report.collect import write_report

            return write_report(run_files(self.recipe, self), folder)

        corpora = [step for step in self.steps if step.kind == "select"]
        needs = {step.name: step for step in [self._tokenize, *corpora, *evaluations]}
        shown = {"recipe": recipe_yaml(self.recipe), "format": PAGE_FORMAT}
        self._add("report", shown, needs, work)

    def _with_model(self, name: str, needs: dict[str, Step]) -> dict[str, Step]:
        step = self._models[name]
        return {**needs, "model": step} if step else needs

    def _model_identity(self, name: str) -> dict[str, object]:
        """What tells a released model from another; nothing for one that a step trains."""
        if self._models[name]:
            return {}
        config: ScorerConfig = getattr(self.recipe, name)
        return {
            "name": config.name,
            "revision": config.revision,
            "origin": config.origin_fingerprint,
        }

    def _load(self, name: str, dtype: Dtype) -> "ScoringModel":
        from miniplm.data.tokenizer import check_same_tokenizer, load_tokenizer
        from miniplm.runtime.devices import place
        from miniplm.scoring.scorer import ScoringModel
        from miniplm.training.student import MODEL_FOLDER

        step = self._models[name]
        if step:
            model = load_model(step.folder / MODEL_FOLDER, dtype=dtype)
            return ScoringModel(place(model), name, step.spec.fingerprint, dtype)
        config: ScorerConfig = getattr(self.recipe, name)
        assert config.name is not None
        if config.name != self.recipe.tokenizer.name:
            check_same_tokenizer(load_tokenizer(self._tokenizer), config, name)
        model = load_model(
            config.name,
            dtype=dtype,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            device_map="auto" if self.recipe.scoring.placement == "spread" else None,
        )
        return ScoringModel(place(model), config.name, config.origin_fingerprint, dtype)

    def _token_bytes(self) -> "NDArray[np.int64]":
        from miniplm.data.tokenizer import load_tokenizer, token_table

        return token_table(load_tokenizer(self._tokenizer)).num_bytes_V


def _origin(recipe: Recipe, name: str) -> str:
    """What a student is trained on, and how, in a few words."""
    student, training = recipe.students[name], recipe.student_training(name)
    words = {CANDIDATES: "all candidates"}
    words |= {corpus: f"selection {corpus!r}" for corpus in recipe.selections}
    words |= {corpus: f"generation {corpus!r}" for corpus in recipe.generations}
    parts = [words[corpus] for corpus in student.corpora]
    if len(parts) > 1:
        shares = student.corpora.values()
        parts = [f"{share:.0%} {part}" for part, share in zip(parts, shares, strict=True)]
    how: list[str] = [training.method] if training.method not in ("plain", "seqkd") else []
    if training.reweighting.kind != "none":
        how.append(f"{training.reweighting.kind} weights")
    return ", ".join([" and ".join(parts), *how])


def recipe_yaml(recipe: Recipe) -> str:
    """What was given of a recipe, as YAML."""
    content = recipe.model_dump(mode="json", exclude_unset=True)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def run_files(recipe: Recipe, road: Road | None = None) -> "RunFiles":
    """A run as the report sees it."""
    from miniplm.report.collect import RunFiles

    road = road or Road(recipe)
    scorers = {"teacher": recipe.teacher, "reference": recipe.reference}
    origins = {role: scorer.name or f"the {role} split" for role, scorer in scorers.items()}
    origins |= {name: _origin(recipe, name) for name in recipe.students}
    return RunFiles(
        run_dir=road.run_dir,
        title=recipe.name,
        stages=[step.name for step in road.steps if step.kind != "report"],
        origins=origins,
        selections=recipe.selections,
        recipe_yaml=recipe_yaml(recipe),
        foundations={name: road.foundations(name) for name in recipe.students},
    )
