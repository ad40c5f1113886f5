"""What a study compares: methods, sizes and seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, model_validator

from miniplm.config import Config, merge_into
from miniplm.data.splits import CANDIDATES
from miniplm.model import ModelConfig
from miniplm.training.config import BudgetConfig, TrainingConfig


class SizeConfig(ModelConfig):
    """A shape of student, and how students of this shape are trained."""

    training: TrainingConfig = Field(
        TrainingConfig(), description="fields that differ from the training section"
    )


class MethodConfig(Config):
    """A way to train students: what on, and how."""

    corpus: str | dict[str, float] = Field(
        CANDIDATES, description="as that of a student: candidates, the name of a selection, ..."
    )
    training: TrainingConfig = Field(
        TrainingConfig(), description="fields that differ from the size's"
    )
    budget_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the size's budget that it gets: whether it comes as far as the "
        "baseline with less",
    )

    @model_validator(mode="after")
    def _one_budget(self) -> "MethodConfig":
        if self.budget_share != 1 and self.training.budget.is_given:
            raise ValueError("give training.budget or budget_share, not both")
        return self


_SECTIONS = frozenset({"", "corpus", *SizeConfig.model_fields})
"""Sections of a student; a fault of all of it has none."""


def _gives(config: Config, fields: Sequence[str]) -> bool:
    """Whether a field, at the end of a path of them, was given."""
    for field in fields:
        if field not in config.model_fields_set:
            return False
        inner = getattr(config, field)
        if not isinstance(inner, Config):
            return True
        config = inner
    return True


@dataclass(frozen=True)
class Member:
    """One student of a study."""

    method: str
    size: str
    seed: int

    @property
    def name(self) -> str:
        """Such as `plain-0.5M-s1`."""
        return f"{self.method}-{self.size}-s{self.seed}"


class StudyConfig(Config):
    """Every method at every size with every seed, over one scored corpus.

    The first method is what the others are compared with, at the same size and seed.
    """

    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(
        [1, 2, 3], min_length=1, description="of the students' weights and order"
    )
    sizes: dict[str, SizeConfig] = Field(min_length=1, description="shapes of students by name")
    methods: dict[str, MethodConfig] = Field(
        min_length=1, description="ways to train them by name; the first is the baseline"
    )
    gain_rows: int = Field(
        20_000,
        ge=0,
        description="candidates on which a student held apart shows what it learns, before the "
        "others are trained; 0: none",
    )

    @model_validator(mode="after")
    def _seeds_differ(self) -> "StudyConfig":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: each once; given: {self.seeds}")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> "StudyConfig":
        names: dict[str, Member] = {}
        for member in self._members():
            other = names.setdefault(member.name, member)
            if other is not member:
                raise ValueError(
                    f"{member.method!r} at {member.size!r} and {other.method!r} at {other.size!r} "
                    f"would both be called {member.name}; rename a method or a size"
                )
        return self

    @property
    def baseline(self) -> str:
        """The method that the others are compared with."""
        return next(iter(self.methods))

    @property
    def members(self) -> list[Member]:
        """All students: seed by seed, so that a study that is cut short has whole seeds."""
        return list(self._members())

    def _members(self) -> Iterator[Member]:
        for seed in self.seeds:
            for size in self.sizes:
                for method in self.methods:
                    yield Member(method, size, seed)

    def student(self, member: Member, shared_budget: BudgetConfig) -> dict[str, object]:
        """The fields of a member's `StudentConfig`, of which only those are set that are given.

        Args:
            member: Which student.
            shared_budget: Of sizes that give none.
        """
        size, method = self.sizes[member.size], self.methods[member.method]
        training = size.training.model_dump(exclude_unset=True)
        of_method = method.training.model_dump(exclude_unset=True)
        if method.training.budget.is_given:
            training.pop("budget", None)
        merge_into(training, of_method)
        if method.budget_share != 1:
            own = size.training.budget
            share = (own if own.is_given else shared_budget).times(method.budget_share)
            training["budget"] = share.model_dump(exclude_none=True)
        return {
            **size.model_dump(exclude_unset=True, exclude={"training"}),
            "corpus": method.corpus,
            "training": {**training, "seed": member.seed},
        }

    @property
    def plain_student(self) -> dict[str, object]:
        """The fields of a student of the first size, without any method or seed."""
        return next(iter(self.sizes.values())).model_dump(exclude_unset=True)

    def where_written(self, faults: Sequence[str]) -> list[str]:
        """Faults of members named by the method or size that they come from, each said once.

        Args:
            faults: Of a recipe, with their places; those of other places stay as they are.

        Example:
            `students.plain-1M-s1.corpus: ...` becomes `study.methods.plain.corpus: ...`.
        """
        return list(dict.fromkeys(self._where_written(fault) for fault in faults))

    def _where_written(self, fault: str) -> str:
        for member in self._members():
            rest = fault.removeprefix(f"students.{member.name}")
            section, *fields = rest.partition(":")[0].split(".")[1:] or [""]
            if rest != fault and rest[:1] in (".", ":") and section in _SECTIONS:
                return (self._place(member, section, fields) + rest).removeprefix(".")
        return fault

    def _place(self, member: Member, section: str, fields: Sequence[str]) -> str:
        """Where a field of a student is given; the shared section has no place in a study."""
        if section == "corpus":
            return f"study.methods.{member.method}"
        if section == "training":
            if _gives(self.methods[member.method].training, fields):
                return f"study.methods.{member.method}"
            size = self.sizes[member.size].training
            if not _gives(size, fields) and fields[:1] != ["budget"]:
                return ""
        return f"study.sizes.{member.size}"

    def faults(self) -> list[str]:
        """What is wrong between fields that are right one by one."""
        places: dict[str, MethodConfig | SizeConfig] = {
            **{f"methods.{name}": method for name, method in self.methods.items()},
            **{f"sizes.{name}": size for name, size in self.sizes.items()},
        }
        return [
            f"study.{place}.training.seed: seeds are those of study.seeds; remove it"
            for place, config in places.items()
            if config.training.seed is not None
        ]
