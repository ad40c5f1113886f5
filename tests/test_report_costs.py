"""What students cost, and the numbers that a reader sees first."""

from types import SimpleNamespace

import pytest

from made_up_report import model, report
from miniplm.report.cost_content import CostContent, StudentCost
from miniplm.report.costs import read_costs
from miniplm.report.headline import headline


def manifest(flops, num_tokens=0, method="plain", facts=None):
    config = {"training": {"method": method}}
    return SimpleNamespace(flops=flops, num_tokens=num_tokens, config=config, facts=facts or {})


def record(**changes):
    manifests = {
        "score/teacher": manifest(8e9, 1000),
        "score/reference": manifest(1e9, 1000),
        "train/teacher": manifest(5e10),
        "train/reference": manifest(3e9),
        "train/plain": manifest(2e9),
        "train/miniplm": manifest(2.01e9),
        "train/wide": manifest(4e9),
        "train/kd": manifest(9e9, method="vanilla_kd"),
    }
    return SimpleNamespace(manifests=manifests | changes)


def student(name, num_params, flops):
    made = model(name, "student", "", num_params, 500, 4.0)
    return type(made)(**{**made.__dict__, "training_flops": flops})


STUDENTS = [
    model("teacher", "teacher", "", 10, 10, 4.0),
    student("plain", 100, 2e9), student("miniplm", 100, 2.01e9), student("wide", 200, 4e9),
    student("kd", 100, 9e9),
]  # fmt: skip


def test_a_student_of_each_size_with_what_is_paid_once_and_beside_it():
    plain, wide = read_costs(record(), STUDENTS).students
    assert (plain.student, wide.student) == ("plain", "wide")
    assert plain.once == 8e9 + 1e9 + 3e9
    assert plain.teacher_beside == pytest.approx(8e9 / 1000 * 500)
    assert plain.teacher_training == 5e10
    assert plain.break_even == 4  # 12e9 against 4e9 each: the third comes out even
    assert plain.per_student("miniplm", 3) == pytest.approx(plain.per_student("kd", 3))
    assert plain.per_student("miniplm", 4) < plain.per_student("kd", 4)


def test_with_a_proxy_the_teacher_s_pass_is_that_of_the_sample():
    proxy = {"proxy": {"flops": {"teacher": 6e9, "head": 2e9}}}
    costs = read_costs(record(**{"score/teacher": manifest(8e9, 1000, facts=proxy)}), STUDENTS)
    assert costs.students[0].teacher_beside == pytest.approx(6e9 / 1000 * 500)
    assert costs.students[0].once == 12e9


def test_without_students_that_learn_from_text_there_is_no_cost():
    assert read_costs(record(), [STUDENTS[0], STUDENTS[-1]]) is None
    assert read_costs(record(**{"score/teacher": manifest(0.0)}), STUDENTS) is None


@pytest.mark.parametrize(
    ("once", "beside", "said"),
    [(12.0, 4.0, "from 4 students on"), (1.0, 4.0, "from the first student on"),
     (1.0, 0.0, "not known")],
)  # fmt: skip
def test_where_the_two_cost_the_same_is_said_in_words(once, beside, said):
    assert said in StudentCost("s", 10.0, once, beside).in_words


def test_the_first_numbers_are_those_of_the_tables():
    cost = CostContent([StudentCost("plain", 10.0, 12.0, 4.0)])
    best, compute, students = headline(report(cost=cost)).figures
    average = {r.domain: r.bits_per_byte for r in report().held_out}["average of domains"]
    wide = "miniplm-calibrated-wide-4-layers-seed-1"
    assert best.value == f"−{average['plain'] - average[wide]:.4f}"
    assert best.meaning.startswith(f"{wide}, the best of 3: better than plain in 10 of 10")
    assert compute.value == f"{4.46e13 / 3.81e13:.2f} times"
    assert students.value == "4 students"


def test_where_nothing_compares_there_is_no_headline():
    shown = headline(report(baseline=None, equal_loss=[]))
    assert (shown.figures, shown.drawing) == ([], None)
    assert headline(report(held_out=[], equal_loss=[])).drawing is None
