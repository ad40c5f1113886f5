"""The road of a recipe: which stages it has, in which order, and what each depends on.

A `Step` ties a stage's spec (from which follows whether its output still holds) to the function
that does the work. Fingerprints are chained: a step's spec names the fingerprints of the steps it
reads, so that changing one field redoes exactly what depends on it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from miniplm.data.documents import corpus_fingerprint
from miniplm.data.tokenization import TOKENIZER_FOLDER, TokenizationConfig, tokenize_corpus
from miniplm.errors import ConfigError
from miniplm.export.exporter import SHARDS_FOLDER, export_corpus
from miniplm.manifest import Outcome, StageSpec
from miniplm.model import Dtype, ModelConfig
from miniplm.recipe import CANDIDATES, Recipe, ScorerConfig, StudentConfig
from miniplm.recipe_text import recipe_yaml
from miniplm.road.forms import add_forms
from miniplm.road.models import Models
from miniplm.road.score_steps import (
    require_good_scores,
    require_scores_to_select_by,
    score_settings,
    score_work,
    scoring_order,
)
from miniplm.road.step import Corpus, Step
from miniplm.training.config import TAUGHT

if TYPE_CHECKING:
    from miniplm.training.config import TrainingConfig
    from miniplm.training.inputs import TrainInputs

PAGE_FORMAT = 5
"""Raised when the report says more from the same results."""


class Road:
    """All steps of a recipe, in an order in which each comes after what it needs."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.run_dir = Path(recipe.run_dir).expanduser()
        self.steps: list[Step] = []
        self._tokenize = self._add_tokenize()
        self._models = Models(recipe, self._tokenizer)
        for role in ("teacher", "reference"):
            self._models.add(role, self._add_scorer(role, getattr(recipe, role)))
        self._scores: dict[str, Step] = {}
        for role in scoring_order(recipe):
            self._scores[role] = self._add_score(role)
        self._corpora = {CANDIDATES: self._candidates()}
        self._corpora |= {name: self._add_selection(name) for name in recipe.selections}
        self._corpora |= {name: self._add_generation(name) for name in recipe.generations}
        self._captures = {name: self._add_capture(name) for name in recipe.captures}
        for name, student in recipe.students.items():
            self._models.add(name, self._add_student(name, student))
        evaluations = [self._add_evaluation(name) for name in self._models.names]
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
            needs = self._models.needed("teacher", needs)
            settings["teacher"] = self._models.identity("teacher")

        def given() -> "TrainInputs":
            from miniplm.training.inputs import TrainInputs
            from miniplm.training.scores import Role, ScoreTables

            folders: dict[Role, Path] = {
                "teacher": self._scores["teacher"].folder,
                "reference": self._scores["reference"].folder,
            }
            normalization = training.reweighting.normalization
            if weighted:
                require_good_scores(recipe, folders["teacher"], normalization)
            dtype: Dtype = training.precision
            return TrainInputs(
                corpora={corpus.shards: share for corpus, share in corpora},
                corpus=" and ".join(corpus.words for corpus, _ in corpora),
                tokenizer=self._tokenizer,
                held_out=self._split("held_out"),
                held_out_sequences=recipe.evaluation.held_out_sequences_while_training,
                scores=ScoreTables(folders, normalization) if weighted else None,
                captured=capture.folder if capture else None,
                teacher=(lambda: self._models.load("teacher", dtype)) if taught else None,
            )

        return self._add_training(name, config, training, given, needs, settings)

    def _add_score(self, role: str) -> Step:
        recipe = self.recipe
        needs = self._models.needed(role, {"tokenize": self._tokenize})
        inputs = {"tokenize": self._splits}
        origin = {**inputs, **{kind: step.spec.fingerprint for kind, step in needs.items()}}
        if recipe.scoring.proxy and role == "teacher":
            needs["score/reference"] = self._scores["reference"]
        work = score_work(
            recipe, role, self._models, self._split(CANDIDATES), self.run_dir, {**origin, **inputs}
        )
        settings = score_settings(recipe, role, self._models)
        return self._add(f"score/{role}", settings, needs, work, inputs)

    def _candidates(self) -> Corpus:
        return Corpus(self._tokenize, self._split(CANDIDATES), "all candidates")

    def _add_selection(self, name: str) -> Corpus:
        """Selection and export of one refined corpus."""
        recipe = self.recipe
        config = recipe.selections[name]
        needs = {"tokenize": self._tokenize, **self._scores}

        def select(folder: Path) -> Outcome:
            from miniplm.selection.selector import select_sequences

            teacher, reference = self._scores["teacher"].folder, self._scores["reference"].folder
            require_scores_to_select_by(recipe, teacher, config)
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
        self._add_description(name, selected)
        exported = self._add(
            f"export/{name}",
            {},
            {"tokenize": self._tokenize, "selection": selected},
            export,
            {"tokenize": self._splits},
        )
        add_forms(
            self._add,
            recipe.export,
            name,
            tokenize=self._tokenize,
            tokenizer=self._tokenizer,
            scores=self._scores,
            selected=selected,
            exported=exported,
            inputs={"tokenize": self._splits},
        )
        return Corpus(exported, exported.folder / SHARDS_FOLDER, f"the refined corpus {name!r}")

    def _add_description(self, name: str, selected: Step) -> None:
        """What a selection did, measured.

        The model that judges the text is counted on the reference's split where there is one, so
        that held-out text, which students are judged on, has no part in it.
        """
        recipe = self.recipe
        apart = "reference" if recipe.splits.reference else "held_out"
        splits = self._splits if recipe.splits.reference else self._tokenize.spec.fingerprint

        def work(folder: Path) -> Outcome:
            from miniplm.data.tokenizer import load_tokenizer, token_bytes
            from miniplm.selection.effects import describe_selection

            shards, texts = self._split(CANDIDATES), token_bytes(load_tokenizer(self._tokenizer))
            return describe_selection(
                shards, selected.folder, self._split(apart), texts, recipe.seed, folder
            )

        self._add(
            f"describe/{name}",
            {"apart": apart, "seed": recipe.seed},
            {"tokenize": self._tokenize, "selection": selected},
            work,
            {"tokenize": splits},
        )

    def _add_generation(self, name: str) -> Corpus:
        """Text that the teacher writes."""
        recipe = self.recipe
        config = recipe.generations[name]
        prompts = self._corpora[config.prompts]

        def work(folder: Path) -> Outcome:
            from miniplm.generation.generator import generate_corpus

            scorer = self._models.load("teacher", recipe.scoring.dtype)
            return generate_corpus(
                scorer, prompts.shards, self._models.token_bytes(), config, folder, recipe.seed
            )

        step = self._add(
            f"generate/{name}",
            {
                **config.fingerprinted(),
                "dtype": recipe.scoring.dtype,
                "seed": recipe.seed,
                **self._models.identity("teacher"),
            },
            self._models.needed("teacher", {"tokenize": self._tokenize, "corpus": prompts.step}),
            work,
            self._without_held_out(prompts),
        )
        return Corpus(step, step.folder / SHARDS_FOLDER, f"text that the teacher wrote ({name!r})")

    def _add_capture(self, name: str) -> Step:
        """The teacher's probabilities beside a corpus."""
        recipe = self.recipe
        config, scoring = recipe.captures[name], recipe.scoring
        corpus = self._corpora[config.corpus]

        def work(folder: Path) -> Outcome:
            from miniplm.scoring.capture import capture_shards

            scorer = self._models.load("teacher", scoring.dtype)
            return capture_shards(scorer, corpus.shards, config, scoring, folder, recipe.seed)

        return self._add(
            f"capture/{name}",
            {
                **config.fingerprinted(),
                "dtype": scoring.dtype,
                "seed": recipe.seed,
                **self._models.identity("teacher"),
            },
            self._models.needed("teacher", {"tokenize": self._tokenize, "corpus": corpus.step}),
            work,
            self._without_held_out(corpus),
        )

    def _without_held_out(self, corpus: Corpus) -> dict[str, str]:
        """Fingerprints of what a step on a corpus reads, which is no held-out text."""
        candidates = corpus.step is self._tokenize
        fingerprint = self._splits if candidates else corpus.step.spec.fingerprint
        return {"tokenize": self._splits, "corpus": fingerprint}

    def _add_evaluation(self, name: str) -> Step:
        evaluation = self.recipe.evaluation

        def work(folder: Path) -> Outcome:
            from miniplm.evaluation.held_out import evaluate_model

            scorer = self._models.load(name, evaluation.dtype)
            return evaluate_model(
                scorer,
                self._split("held_out"),
                self._models.token_bytes(),
                folder,
                self.recipe.scoring.memory_gb,
            )

        return self._add(
            f"evaluate/{name}",
            {"dtype": evaluation.dtype, **self._models.identity(name)},
            self._models.needed(name, {"tokenize": self._tokenize}),
            work,
        )

    def _add_report(self, evaluations: Sequence[Step]) -> None:
        def work(folder: Path) -> Outcome:
            from miniplm.report.collect import write_report
            from miniplm.road.run_files import run_files

            stages = [step.name for step in self.steps if step.kind != "report"]
            foundations = {name: self.foundations(name) for name in self.recipe.students}
            return write_report(run_files(self.recipe, self.run_dir, stages, foundations), folder)

        corpora = [step for step in self.steps if step.kind in ("select", "describe")]
        needs = {step.name: step for step in [self._tokenize, *corpora, *evaluations]}
        shown = {"recipe": recipe_yaml(self.recipe), "format": PAGE_FORMAT}
        self._add("report", shown, needs, work)
