"""The recipe: everything about a run, in one typed tree; presets are functions that return one."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from miniplm.config import (
    NOT_FINGERPRINTED,
    Config,
    merge_into,
    parse_overrides,
    read_yaml,
    validate,
)
from miniplm.data.documents import CorpusConfig
from miniplm.data.order import MIXTURE_ROUND
from miniplm.data.packing import PackingConfig
from miniplm.data.splits import CANDIDATES, SplitsConfig
from miniplm.data.tokenizer import TokenizerConfig
from miniplm.errors import ConfigError
from miniplm.evaluation.config import EvaluationConfig
from miniplm.export.config import ExportConfig, RetokenizationConfig, retokenization_faults
from miniplm.generation.config import GenerationConfig
from miniplm.model import ModelConfig
from miniplm.scoring.capture_config import CaptureConfig
from miniplm.scoring.checks import own_token_faults, proxy_faults
from miniplm.scoring.config import ScoringConfig
from miniplm.selection.checks import row_table_faults
from miniplm.selection.config import SelectionConfig
from miniplm.selection.duplicates_config import NearDuplicatesConfig
from miniplm.selection.grouping_config import GroupingConfig
from miniplm.study.config import StudyConfig
from miniplm.training.checks import method_faults
from miniplm.training.config import HELD_APART, READ_BY, TrainingConfig

_SHORTER_SHARE = 0.25

_RESERVED = ("teacher", "reference")
_SMALLEST_SHARE = 1 / MIXTURE_ROUND


class ScorerConfig(ModelConfig):
    """A teacher or a reference."""

    tokenizer: Literal["run", "own"] = Field(
        "run",
        description="of a released one: run (the corpus's ids are its own), or own (it reads the "
        "same text in its own tokens; compared per_byte)",
    )
    training: TrainingConfig | None = Field(
        None, description="how to train it, when it starts from scratch on its own split"
    )
    leave_out: list[str] = Field(
        default_factory=list,
        description="domains (globs, such as noise-*) of its split that it is not trained on: what "
        "a teacher has learnt it finds good",
    )


class StudentConfig(ModelConfig):
    """A student: a shape, what it trains on, and where its training differs."""

    corpus: str | dict[str, float] = Field(
        CANDIDATES,
        description="candidates, the name of a selection, a generation or a retokenization, or "
        "several of these with their shares",
    )
    training: TrainingConfig = Field(
        TrainingConfig(),
        description="fields that differ from the training section",
    )

    @property
    def corpora(self) -> dict[str, float]:
        """The corpora it trains on, with their shares."""
        return {self.corpus: 1.0} if isinstance(self.corpus, str) else self.corpus


class Recipe(Config):
    """A whole run."""

    name: str = Field("miniplm", description="title of the report")
    run_dir: Annotated[str, NOT_FINGERPRINTED] = Field(
        "runs/miniplm", min_length=1, description="folder of everything the run makes"
    )
    seed: int = Field(1234, ge=0, lt=2**63, description="of splits, shuffling, weights and order")
    corpus: CorpusConfig = Field(description="the documents")
    held_out_corpus: CorpusConfig | None = Field(
        None, description="documents for evaluation, instead of splits.held_out"
    )
    splits: SplitsConfig = Field(SplitsConfig(), description="shares of the corpus")
    tokenizer: TokenizerConfig = Field(TokenizerConfig(), description="the tokenizer")
    packing: PackingConfig = Field(PackingConfig(), description="documents to sequences")
    teacher: ScorerConfig = Field(description="the large model whose knowledge is wanted")
    reference: ScorerConfig = Field(description="the small model it is compared with")
    near_duplicates: NearDuplicatesConfig | None = Field(
        None, description="look for candidates that say nearly the same; null: do not"
    )
    grouping: GroupingConfig | None = Field(
        None, description="group similar candidates, where domains are not labelled; null: do not"
    )
    scoring: ScoringConfig = Field(ScoringConfig(), description="how both score")
    selections: dict[str, SelectionConfig] = Field(
        default_factory=lambda: {"refined": SelectionConfig()},
        description="refined corpora by name",
    )
    generations: dict[str, GenerationConfig] = Field(
        default_factory=dict, description="text that the teacher writes, by name, for seqkd"
    )
    captures: dict[str, CaptureConfig] = Field(
        default_factory=dict,
        description="the teacher's probabilities stored beside a corpus, by name, for sparse_kd",
    )
    retokenizations: dict[str, RetokenizationConfig] = Field(
        default_factory=dict,
        description="corpora for students of another tokenizer, by name",
    )
    export: ExportConfig = Field(ExportConfig(), description="forms of the refined corpora")
    training: TrainingConfig = Field(TrainingConfig(), description="how students are trained")
    students: dict[str, StudentConfig] = Field(
        default_factory=dict,
        description="students by name; the first one is what the others are compared with",
    )
    study: StudyConfig | None = Field(
        None, description="students of every method, size and seed, besides those by name"
    )
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="what is measured")

    def given(self) -> dict[str, Any]:
        """What was given, as plain values: without the students that follow from the study."""
        content = self.model_dump(mode="json", exclude_unset=True)
        if self.study is not None:
            for member in self.study.members:
                content["students"].pop(member.name)
            if not content["students"]:
                del content["students"]
        return content

    def with_study(self) -> "Recipe":
        """The same recipe with the students of its study.

        Raises:
            ConfigError: A student has the name of one of them.
        """
        if self.study is None:
            return self
        named = {
            member.name: StudentConfig.model_validate(
                self.study.student(member, self.training.budget)
            )
            for member in self.study.members
        }
        if twice := sorted(named.keys() & self.students.keys()):
            raise ConfigError(
                "the recipe",
                [f"students.{name}: the study has one of this name; choose another"
                 for name in twice],
            )  # fmt: skip
        return self.model_copy(update={"students": {**self.students, **named}})

    def where_written(self, faults: Sequence[str]) -> list[str]:
        """Faults by the place where what is wrong was written, each said once."""
        return self.study.where_written(faults) if self.study else list(dict.fromkeys(faults))

    def student_training(self, name: str) -> TrainingConfig:
        """A student's training: the shared section with the student's own fields on top."""
        return self._merged_training(self.students[name])

    def _merged_training(self, student: StudentConfig) -> TrainingConfig:
        merged = self.training.model_dump()
        merge_into(merged, student.training.model_dump(exclude_unset=True))
        if student.training.budget.is_given:
            merged["budget"] = student.training.budget.model_dump()
        return TrainingConfig.model_validate(merged)

    def faults(self) -> list[str]:
        """What is wrong between fields that are right one by one."""
        faults = []
        for role in _RESERVED:
            faults += self._scorer_faults(role, getattr(self, role))
        for kind in ("selections", "generations", "retokenizations", "captures"):
            faults += [fault for name in getattr(self, kind) if (fault := _name_fault(kind, name))]
        faults += self._corpus_faults()
        faults += self._study_faults(self.study) if self.study else []
        members = {member.name for member in self.study.members} if self.study else set()
        for name, student in self.unlike_students.items():
            named = "" if name in members else _name_fault("students", name)
            faults += [named] * bool(named)
            faults += self._student_faults(name, student)
        faults += self._token_faults()
        faults += row_table_faults(self.selections, self.near_duplicates, self.grouping)
        held_out_source = self.held_out_corpus.source if self.held_out_corpus else None
        if "tokens" in (self.corpus.source, held_out_source) and self.tokenizer.name is None:
            faults.append(
                "tokenizer.name: source: tokens is read with the tokenizer it was cut with; give "
                "that tokenizer's name"
            )
        faults += self._text_faults()
        if (self.splits.held_out > 0) == (self.held_out_corpus is not None):
            faults.append(
                "splits.held_out: give a share for evaluation, or 0 and a held_out_corpus "
                f"(given: {self.splits.held_out:g} and "
                f"{'a' if self.held_out_corpus else 'no'} held_out_corpus)"
            )
        return faults

    @property
    def apart(self) -> Literal["teacher", "reference"] | None:
        """The split whose text is neither scored nor evaluated on, if there is one."""
        if self.splits.teacher > 0:
            return "teacher"
        return "reference" if self.splits.reference > 0 else None

    @property
    def held_apart(self) -> dict[str, StudentConfig]:
        """The students that a study holds apart from the candidates, the shorter trained first."""
        study = self.study
        if study is None or not study.gain_rows or self.apart is None:
            return {}
        longer = StudentConfig.model_validate(study.plain_student)
        training = self._merged_training(longer)
        budgets = [training.budget.times(_SHORTER_SHARE), training.budget]
        return {
            name: longer.model_copy(
                update={"training": training.model_copy(update={"budget": budget})}
            )
            for name, budget in zip(HELD_APART, budgets, strict=True)
        }

    def config_of(self, name: str) -> StudentConfig | ScorerConfig:
        """A student, one held apart, the teacher or the reference."""
        config: StudentConfig | ScorerConfig | None
        config = self.students.get(name) or self.held_apart.get(name)
        return config or getattr(self, name)

    @property
    def known_corpora(self) -> list[str]:
        """What students can be trained on."""
        return [*self.own_corpora, *self.retokenizations]

    @property
    def own_corpora(self) -> list[str]:
        """Those with the tokens that teacher and reference read."""
        return [CANDIDATES, *self.selections, *self.generations]

    def taken_from(self, corpus: str) -> str:
        """The corpus whose text one holds: itself, unless it was retokenised."""
        retokenized = self.retokenizations.get(corpus)
        return retokenized.corpus if retokenized else corpus

    def tokenizer_of(self, corpus: str) -> str | None:
        """The retokenization whose tokenizer a corpus has; None for the run's own."""
        retokenized = self.retokenizations.get(corpus)
        return (retokenized.tokenizer_of or corpus) if retokenized else None

    def max_length_of(self, corpus: str) -> int:
        """Most predicted tokens in a row of a corpus."""
        retokenized = self.retokenizations.get(corpus)
        return (retokenized and retokenized.max_length) or self.packing.max_length

    @property
    def unlike_students(self) -> dict[str, StudentConfig]:
        """The students but those of a study that differ from another in the seed only."""
        members = self.study.members if self.study else []
        alike = {member.name for member in members if member.seed != members[0].seed}
        return {name: student for name, student in self.students.items() if name not in alike}

    def _study_faults(self, study: StudyConfig) -> list[str]:
        """What is wrong with a study besides its students."""
        faults = [_folder_fault("study.methods", name) for name in study.methods]
        faults += [_folder_fault("study.sizes", name, starts="") for name in study.sizes]
        return [fault for fault in faults if fault] + study.faults()

    def _text_faults(self) -> list[str]:
        """What is wrong with further texts to measure on."""
        faults = [_name_fault("evaluation.texts", name) for name in self.evaluation.texts]
        faults += [
            f"evaluation.texts.{name}.source: tokens are measured as held_out_corpus; give text"
            for name, corpus in self.evaluation.texts.items()
            if corpus.source == "tokens"
        ]
        lengths = {corpus: self.max_length_of(corpus) for corpus in self.known_corpora}
        stride, shortest = self.evaluation.window_stride, min(lengths.values())
        if stride is not None and stride > shortest:
            faults.append(
                f"evaluation.window_stride: is {stride}, but a window has {shortest} tokens; "
                "tokens between windows would be left out"
            )
        return [fault for fault in faults if fault]

    def _corpus_faults(self) -> list[str]:
        """What is wrong with where generations and captures take their sequences from."""
        faults = [
            f"generations.{name}: there is a selection of this name; choose another"
            for name in self.generations
            if name in self.selections
        ]
        sources = {
            f"generations.{name}.prompts": (config.prompts, [CANDIDATES, *self.selections])
            for name, config in self.generations.items()
        } | {
            f"captures.{name}.corpus": (config.corpus, self.own_corpora)
            for name, config in self.captures.items()
        }
        for place, (corpus, known) in sources.items():
            if corpus not in known:
                faults.append(f"{place}: there is no {corpus!r}; choose one of {', '.join(known)}")
        return faults + retokenization_faults(self.retokenizations, self.own_corpora)

    def _token_faults(self) -> list[str]:
        """What is wrong with the tokens that models read, and what scores are compared per."""
        scorers = {"teacher": self.teacher, "reference": self.reference}
        faults = [
            "tokenizer.name: a released teacher or reference reads ids of its own tokenizer; give "
            f"that tokenizer's name, or set {role}.tokenizer: own and compare per_byte"
            for role, scorer in scorers.items()
            if self.tokenizer.name is None and not scorer.from_scratch and scorer.tokenizer == "run"
        ]
        trainings = {name: self.student_training(name) for name in self.unlike_students}
        kinds = {name: training.reweighting.kind for name, training in trainings.items()}
        normalizations = {
            f"selections.{name}.normalization": str(selection.normalization)
            for name, selection in self.selections.items()
        } | {
            f"students.{name}.training.reweighting.normalization": str(reweighting.normalization)
            for name, training in trainings.items()
            if (reweighting := training.reweighting).kind in ("static", "repeats", "dynamic")
        }
        places = [f"generations.{name}" for name in self.generations]
        places += [f"captures.{name}" for name in self.captures]
        return (
            faults
            + proxy_faults(self.scoring, kinds)
            + own_token_faults(
                [role for role, scorer in scorers.items() if scorer.tokenizer == "own"],
                per_token=self.scoring.per_token,
                methods={name: training.method for name, training in trainings.items()},
                reweighting=kinds,
                normalizations=normalizations,
                teacher_writes=places,
            )
        )

    def _scorer_faults(self, role: str, scorer: ScorerConfig) -> list[str]:
        share = getattr(self.splits, role)
        if not scorer.from_scratch:
            given = {"training": scorer.training is not None, "leave_out": bool(scorer.leave_out)}
            return [
                f"{role}.{field}: a released model is not trained; remove it"
                for field, is_given in given.items()
                if is_given
            ]
        faults = []
        if scorer.tokenizer == "own":
            faults.append(
                f"{role}.tokenizer: a {role} from scratch learns the run's ids; remove it"
            )
        if scorer.training is None or not scorer.training.budget.is_given:
            faults.append(
                f"{role}.training.budget: a {role} from scratch has to be trained; give tokens, "
                "steps or flops"
            )
        elif scorer.training.method != "plain" or scorer.training.reweighting.kind != "none":
            faults.append(
                f"{role}.training: a {role} is trained plainly; remove method and reweighting"
            )
        if share == 0:
            faults.append(
                f"splits.{role}: is 0, but the {role} starts from scratch and trains on that split"
            )
        return faults

    def _student_faults(self, name: str, student: StudentConfig) -> list[str]:
        faults = []
        if not student.from_scratch:
            faults.append(
                f"students.{name}.name: students are pre-trained from scratch; give shape, or "
                "config_from to take the shape of a released model"
            )
        known = self.known_corpora
        faults += [
            f"students.{name}.corpus: there is no {corpus!r}; choose one of {', '.join(known)}"
            for corpus in student.corpora
            if corpus not in known
        ]
        kinds = {(self.tokenizer_of(name), self.max_length_of(name)) for name in student.corpora}
        if len(kinds) > 1:
            faults.append(
                f"students.{name}.corpus: its corpora differ in tokenizer or length; retokenise "
                "all of them, with one tokenizer (tokenizer_of)"
            )
        shares = student.corpora.values()
        if abs(sum(shares) - 1) > 1e-6 or min(shares) < _SMALLEST_SHARE:
            faults.append(
                f"students.{name}.corpus: shares have to be at least {_SMALLEST_SHARE:g} and add "
                f"up to 1; given: {student.corpora}"
            )
        training = self.student_training(name)
        faults += [
            f"students.{name}.training.{field}: only {' and '.join(methods)} read it, and the "
            f"method is {training.method}; remove it"
            for field, methods in READ_BY.items()
            if field in student.training.model_fields_set and training.method not in methods
        ]
        faults += method_faults(
            name,
            training,
            list(student.corpora),
            generations=[c for c in self.known_corpora if self.taken_from(c) in self.generations],
            retokenizations=self.retokenizations,
            captures=self.captures,
            scored_per_token=self.scoring.per_token,
            teacher_is_spread=self.scoring.placement == "spread",
        )
        if not training.budget.is_given:
            faults.append(
                f"students.{name}.training.budget: give tokens, steps or flops, here or in "
                "training.budget"
            )
        return faults


def _name_fault(kind: str, name: str) -> str:
    if name in (*_RESERVED, *HELD_APART, CANDIDATES):
        return f"{kind}.{name}: this name is taken; choose another"
    return _folder_fault(kind, name)


def _folder_fault(kind: str, name: str, *, starts: str = "[A-Za-z0-9]") -> str:
    """What is wrong with a name of, or in the middle of, a folder's name."""
    if not re.fullmatch(f"{starts}[A-Za-z0-9._-]*", name):
        return f"{kind}.{name}: becomes a folder; use letters, digits, '-', '_' and '.'"
    return ""


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply `key=value` overrides and check all of it.

    Raises:
        ConfigError: Lists every fault with its place.
    """
    content = read_yaml(path)
    merge_into(content, parse_overrides(overrides, content))
    return make_recipe(content, str(path))


def make_recipe(content: dict[str, Any], source: str) -> Recipe:
    """Check a recipe given as plain values. Raises what `load_recipe` raises."""
    recipe = validate(Recipe, content, source).with_study()
    if faults := recipe.faults():
        raise ConfigError(source, recipe.where_written(faults))
    return recipe


def override_recipe(recipe: Recipe, overrides: Sequence[str], source: str) -> Recipe:
    """A recipe with `key=value` overrides applied. Raises what `load_recipe` raises."""
    content = recipe.given()
    merge_into(content, parse_overrides(overrides, content))
    return make_recipe(content, source)
