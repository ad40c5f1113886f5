"""The road of a recipe: which stages it has, in which order, and what each depends on.

A `Step` ties a stage's spec (from which follows whether its output still holds) to the function
that does the work. Fingerprints are chained: a step's spec names the fingerprints of the steps it
reads, so that changing one field redoes exactly what depends on it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from miniplm.data.splits import CANDIDATES
from miniplm.errors import ConfigError
from miniplm.known_files import KNOWN_NAME, KnownFiles
from miniplm.manifest import Outcome
from miniplm.model import Dtype, ModelConfig
from miniplm.recipe import Recipe, ScorerConfig, StudentConfig
from miniplm.recipe_text import recipe_yaml
from miniplm.road.candidates import DISTINCT, DUPLICATES, GROUP, Candidates
from miniplm.road.corpora import Corpora
from miniplm.road.models import Models, token_bytes
from miniplm.road.score_steps import (
    require_good_scores,
    score_settings,
    score_work,
    scoring_order,
)
from miniplm.road.step import HELD_OUT, Corpus, Step
from miniplm.road.steps import Steps
from miniplm.road.study import DIAGNOSE, STUDY, add_diagnosis, add_study
from miniplm.road.task_steps import add_task_steps
from miniplm.road.text_steps import add_text_steps
from miniplm.road.tokenized import Tokenized
from miniplm.training.config import TAUGHT

if TYPE_CHECKING:
    from miniplm.training.config import TrainingConfig
    from miniplm.training.inputs import TrainInputs

HELD_OUT_SAMPLE = "balanced over domains"
"""What the losses along the way are of; students measured on another sample are not compared."""

EVALUATION_FORMAT = 2
"""Raised when an evaluation would from now on measure more."""

PAGE_FORMAT = 16
"""Raised when the report says more from the same results."""


class Road:
    """All steps of a recipe, in an order in which each comes after what it needs.

    Attributes:
        recipe: Of the run.
        run_dir: Its folder.
        known: The files that it reads.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.run_dir = Path(recipe.run_dir).expanduser()
        self.known = KnownFiles(self.run_dir / KNOWN_NAME)
        with self.known.in_use():
            self._lay(recipe)

    def _lay(self, recipe: Recipe) -> None:
        self._steps = Steps(self.run_dir)
        self._tokenized = Tokenized(recipe, self._steps)
        self._candidates = Candidates(recipe, self._steps, self._tokenized)
        self._models = Models(recipe, self._tokenized.tokenizer)
        for role in ("teacher", "reference"):
            self._models.add(role, self._add_scorer(role, getattr(recipe, role)))
        self._scores: dict[str, Step] = {}
        for role in scoring_order(recipe):
            self._scores[role] = self._add_score(role)
        self._corpora = Corpora(
            recipe, self._steps, self._tokenized, self._candidates, self._models, self._scores
        )
        self._diagnosis = self._add_diagnosis()
        self._captures = {name: self._add_capture(name) for name in recipe.captures}
        evaluations = {role: self._add_evaluation(role) for role in ("teacher", "reference")}
        for name, student in recipe.students.items():
            self._models.add(name, self._add_student(name, student))
            evaluations[name] = self._add_evaluation(name)
        if self._diagnosis is not None:
            add_study(recipe, self._steps, self._diagnosis, evaluations)
        tasks = add_task_steps(recipe, self._steps, self._models)
        self._add_report([*evaluations.values(), *tasks, *self._add_texts()])

    @property
    def steps(self) -> list[Step]:
        """All steps, each after what it needs."""
        return self._steps.all

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

    def _add_scorer(self, role: str, config: ScorerConfig) -> Step | None:
        """The training of a teacher or reference; None for a released one."""
        if config.training is None:
            return None
        return self._add_on_split(role, config, config.training, role, config.leave_out)

    def _add_on_split(
        self,
        name: str,
        config: ModelConfig,
        training: "TrainingConfig",
        split: str,
        leave_out: Sequence[str] = (),
    ) -> Step:
        """The training of a model on a split of its own, but for the domains left out."""
        words = f"the {split} split" + (f" without {', '.join(leave_out)}" if leave_out else "")

        def given() -> "TrainInputs":
            from miniplm.training.inputs import TrainInputs

            return TrainInputs(
                corpora={self._tokenized.split(split): 1.0},
                corpus=words,
                tokenizer=self._tokenized.tokenizer,
                held_out=self._tokenized.split("held_out"),
                held_out_sequences=self.recipe.evaluation.held_out_sequences_while_training,
                leave_out=tuple(leave_out),
            )

        needs = {"tokenize": self._tokenized.step}
        inputs = {"tokenize": self._tokenized.splits}
        settings: dict[str, object] = {"split": split}
        if leave_out:
            settings["leave_out"] = list(leave_out)
        return self._add_training(name, config, training, given, needs, settings, inputs)

    def _add_training(
        self,
        name: str,
        config: ModelConfig,
        training: "TrainingConfig",
        given: "Callable[[], TrainInputs]",
        needs: dict[str, Step],
        settings: dict[str, object],
        inputs: dict[str, str] | None = None,
    ) -> Step:
        """The training of a model on what is `given`; `settings` are its spec beside its shape."""
        recipe = self.recipe
        shape = config.model_dump(mode="json", include={"config_from", "shape"})
        inputs = {"origin": config.origin_fingerprint, **(inputs or {})}
        settings = {
            **shape,
            "seed": recipe.seed,
            "training": training.fingerprinted(),
            **settings,
        }

        def work(folder: Path) -> Outcome:
            from miniplm.training.student import train_model

            return train_model(name, config, training, given(), recipe.seed, folder)

        return self._steps.add(f"train/{name}", settings, needs, work, inputs)

    def _add_student(self, name: str, config: StudentConfig) -> Step:
        """The training of a student; its needs follow from its corpora and its method."""
        recipe = self.recipe
        training = recipe.student_training(name)
        corpora = [(self._corpora[corpus], share) for corpus, share in config.corpora.items()]
        read = self._read_by(name)
        needs = self._held_out(read)
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
            "held_out": {
                "sequences": recipe.evaluation.held_out_sequences_while_training,
                "sample": HELD_OUT_SAMPLE,
            },
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
                tokenizer=read.tokenizer,
                held_out=read.held_out,
                held_out_sequences=recipe.evaluation.held_out_sequences_while_training,
                scores=ScoreTables(folders, normalization) if weighted else None,
                captured=capture.folder if capture else None,
                teacher=(lambda: self._models.load("teacher", dtype)) if taught else None,
            )

        return self._add_training(name, config, training, given, needs, settings)

    def _add_score(self, role: str) -> Step:
        recipe, candidates = self.recipe, self._candidates
        needs, inputs = self._models.needed(role, candidates.needs), candidates.inputs
        origin = {kind: step.spec.fingerprint for kind, step in needs.items()} | inputs
        if recipe.scoring.proxy and role == "teacher":
            needs["score/reference"] = self._scores["reference"]
        work = score_work(recipe, role, self._models, candidates.corpus, self.run_dir, origin)
        settings = score_settings(recipe, role, self._models)
        return self._steps.add(f"score/{role}", settings, needs, work, inputs)

    def _add_diagnosis(self) -> Step | None:
        """What a study measures of its teacher before students are trained."""
        recipe = self.recipe
        if recipe.study is None:
            return None
        for name, config in recipe.held_apart.items():
            assert recipe.apart is not None
            step = self._add_on_split(name, config, config.training, recipe.apart)
            self._models.add(name, step)
        needs = {f"score/{role}": step for role, step in self._scores.items()}
        corpus, origin = self._candidates.corpus, self._candidates.origin
        return add_diagnosis(recipe, self._steps, self._models, corpus, needs, origin)

    def _add_capture(self, name: str) -> Step:
        """The teacher's probabilities beside a corpus."""
        recipe = self.recipe
        config, scoring = recipe.captures[name], recipe.scoring
        corpus = self._corpora[config.corpus]

        def work(folder: Path) -> Outcome:
            from miniplm.scoring.capture import capture_shards

            scorer = self._models.load("teacher", scoring.dtype)
            return capture_shards(scorer, corpus.shards, config, scoring, folder, recipe.seed)

        return self._steps.add(
            f"capture/{name}",
            {
                **config.fingerprinted(),
                "dtype": scoring.dtype,
                "seed": recipe.seed,
                **self._models.identity("teacher"),
            },
            self._models.needed(
                "teacher", {"tokenize": self._tokenized.step, "corpus": corpus.step}
            ),
            work,
            self._tokenized.inputs_of(corpus),
        )

    def _add_evaluation(self, name: str) -> Step:
        evaluation, read = self.recipe.evaluation, self._read_by(name)

        def work(folder: Path) -> Outcome:
            from miniplm.evaluation.held_out import evaluate_model

            scorer = self._models.load(name, evaluation.dtype)
            return evaluate_model(
                scorer,
                read.held_out,
                token_bytes(read.tokenizer),
                folder,
                self.recipe.scoring.memory_gb,
                evaluation.set_apart,
            )

        return self._steps.add(
            f"evaluate/{name}",
            {
                "dtype": evaluation.dtype,
                "set_apart": evaluation.set_apart,
                "format": EVALUATION_FORMAT,
                **self._models.identity(name),
            },
            self._models.needed(name, self._held_out(read)),
            work,
        )

    def _add_texts(self) -> list[Step]:
        """Models over further texts."""
        read = {name: self._read_by(name) for name in self._models.compared}
        return add_text_steps(self.recipe, self._steps, self._models, read)

    def _read_by(self, model: str) -> Corpus:
        """A corpus with the tokens that a model reads."""
        student = self.recipe.students.get(model)
        return self._corpora[next(iter(student.corpora)) if student else CANDIDATES]

    def _held_out(self, read: Corpus) -> dict[str, Step]:
        """What a step needs for held-out text with the tokens of a corpus."""
        tokenize = self._tokenized.step
        retokenized = read.held_out_step is not tokenize
        return {"tokenize": tokenize} | ({HELD_OUT: read.held_out_step} if retokenized else {})

    def _add_report(self, evaluations: Sequence[Step]) -> None:
        def work(folder: Path) -> Outcome:
            from miniplm.report.collect import write_report
            from miniplm.road.run_files import run_files

            stages = [step.name for step in self.steps if step.kind != "report"]
            foundations = {name: self.foundations(name) for name in self.recipe.students}
            shards = self._candidates.corpus.shards
            files = run_files(self.recipe, self.run_dir, shards, stages, foundations)
            return write_report(files, folder)

        def settle() -> None:
            from miniplm.report.card_evaluation import write_evaluations

            write_evaluations(self.run_dir)

        shown = (DUPLICATES, DISTINCT, GROUP, "select", "describe", DIAGNOSE, STUDY)
        corpora = [step for step in self.steps if step.kind in shown]
        needs = {step.name: step for step in [self._tokenized.step, *corpora, *evaluations]}
        settings = {"recipe": recipe_yaml(self.recipe), "format": PAGE_FORMAT}
        self._steps.add("report", settings, needs, work, settle=settle)
