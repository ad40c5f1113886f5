"""What a student costs by MiniPLM and by a teacher in the loop, for one student or for many.

FLOPs throughout, counted from the shapes. The teacher's own training is told apart: ordinarily a
teacher is there already, and both methods need it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Method = Literal["plain", "miniplm", "kd"]


@dataclass(frozen=True)
class StudentCost:
    """What one student costs.

    `once` is paid once for all students that are trained on the scores: the reference's training
    and both models' pass over the candidates. `teacher_beside` is the teacher's forward pass over
    every token that the student trains on, which a teacher in the loop adds to each student.
    """

    student: str
    training: float
    once: float
    teacher_beside: float
    teacher_training: float = 0.0

    def per_student(
        self, method: Method, num_students: int, *, with_teacher: bool = False
    ) -> float:
        """FLOPs a student where so many are trained.

        Example:
            >>> cost = StudentCost("s", training=10.0, once=8.0, teacher_beside=4.0)
            >>> [cost.per_student(method, 4) for method in ("plain", "miniplm", "kd")]
            [10.0, 12.0, 14.0]
        """
        if method == "plain":
            return self.training
        shared = self.teacher_training if with_teacher else 0.0
        if method == "miniplm":
            return self.training + (self.once + shared) / num_students
        return self.training + self.teacher_beside + shared / num_students

    @property
    def break_even(self) -> int | None:
        """The fewest students for which MiniPLM costs each of them less than a teacher in the loop.

        Example:
            >>> StudentCost("s", training=10.0, once=8.0, teacher_beside=4.0).break_even
            3
        """
        if not self.teacher_beside > 0:
            return None
        return math.floor(self.once / self.teacher_beside) + 1

    @property
    def in_words(self) -> str:
        """Where the two methods cost the same, in a sentence."""
        number = self.break_even
        if number is None:
            return "What the teacher's pass over a student's tokens would cost is not known here."
        share = self.once / self.teacher_beside
        if number == 1:
            return (
                f"Scoring, with the reference's training, costs {share:.2f} times the teacher's "
                "passes that one student like this would need with a teacher in the loop: MiniPLM "
                "is cheaper from the first student on."
            )
        return (
            "Scoring once, with the reference's training, costs as much as the teacher's passes "
            f"for {share:.1f} students like this one: from {number} students on MiniPLM is cheaper "
            "than a teacher in the loop, with fewer it is dearer."
        )


@dataclass(frozen=True)
class CostContent:
    """A student of each size and budget."""

    students: Sequence[StudentCost]
