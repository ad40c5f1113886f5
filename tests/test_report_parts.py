import doctest
import math
import re
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_up_report import report, selection
from miniplm.report import curves, formats, scales, selections, tables
from miniplm.report.gap_figure import gap_points
from miniplm.report.headline import headline
from miniplm.report.line_chart import Point
from miniplm.report.loss_figure import thin
from miniplm.report.model_content import BITS, NATS, CurvePoint, TrainingCurves
from miniplm.report.scaling_rows import read_scaling
from miniplm.report.seed_means import seed_means
from miniplm.report.setup import setup_sentences
from miniplm.report.study_content import StudyContent, StudyRow
from miniplm.report.task_content import TaskContent, TaskDifference, TaskResult


@pytest.mark.parametrize(
    ("low", "high", "target", "ticks"),
    [
        (0, 10, 6, [0, 2, 4, 6, 8, 10]),
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.42, 0.37, 4, [-0.4, -0.2, 0, 0.2]),
        (3.31, 3.39, 5, [3.32, 3.34, 3.36, 3.38]),
        (0, 47_000, 5, [0, 10_000, 20_000, 30_000, 40_000]),
        (2, 2, 5, [2]),
        (0.1, 0.7, 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
    ],
)
def test_ticks_are_round_numbers(low, high, target, ticks):
    assert scales.nice_ticks(low, high, target) == ticks


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 10))
@settings(max_examples=60, deadline=None)
def test_ticks_are_few_rising_and_inside(low, span, target):
    ticks = scales.nice_ticks(low, low + span, target)
    assert len(ticks) <= target + 1
    assert ticks == sorted(set(ticks))
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks)


def test_ticks_of_ratios():
    assert scales.log_ticks(3, 120) == [5, 10, 20, 50, 100]
    assert scales.log_ticks(1, 1e6) == [1, 10, 100, 1e3, 1e4, 1e5, 1e6]
    assert scales.tick_labels([0.5, 1.0, 100.0], log=True) == ["0.5", "1", "100"]


def test_tick_labels_share_their_decimals():
    assert scales.tick_labels([-0.05, 0.0, 0.05]) == ["−0.05", "0.00", "0.05"]
    assert scales.tick_labels([0.0, 5e12, 1e13], 1e12) == ["0", "5", "10"]


def test_an_axis_places_and_clamps():
    axis = scales.Axis.around([2.0, 4.0], padding=0.5)
    assert (axis.low, axis.high) == (1.0, 5.0)
    assert [axis.share(value) for value in (0, 1, 3, 5, 9)] == [0, 0, 0.5, 1, 1]
    assert scales.Axis(1, 100, log=True).share(10) == pytest.approx(0.5)
    assert scales.Axis.around([]).share(0.25) == 0.25
    assert scales.Axis.around([3.0, math.nan]).share(3.0) == pytest.approx(0.5)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_labels_are_spread_apart_in_their_order(positions):
    gap = min(8.0, 100 / max(1, len(positions) - 1))
    moved = scales.spread(positions, 8.0, 0, 100)
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    placed = [moved[index] for index in order]
    assert all(after - before >= gap - 1e-6 for before, after in pairwise(placed))
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in placed)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (formats.short(0), "0"),
        (formats.short(999), "999"),
        (formats.short(1_000), "1k"),
        (formats.short(999_950), "1M"),
        (formats.short(1_250_000_000), "1.25B"),
        (formats.short(0.3125), "0.312"),
        (formats.short(-4_200), "−4.2k"),
        (formats.flops(3.4e12), "3.4 TFLOPs"),
        (formats.flops(1.26e21), "1.26 ZFLOPs"),
        (formats.flops(None), "–"),
        (formats.flops(0.0), "0 FLOPs"),
        (formats.flops(math.inf), "∞ FLOPs"),
        (formats.count(1_234_567), "1,234,567"),
        (formats.fixed(-0.0001), "0.000"),
        (formats.fixed(math.nan), "not a number"),
        (formats.signed(0.0151), "+0.015"),
        (formats.signed(-0.042), "−0.042"),
        (formats.signed(0.0004), "0.000"),
        (formats.signed(None), "–"),
        (formats.percent(0.5), "50.0 %"),
        (formats.percent(1.0), "100.0 %"),
        (formats.percent(0.99999), ">99.9 %"),
        (formats.duration(59.96), "1 min 0 s"),
        (formats.duration(3599.7), "1 h 0 min"),
        (formats.duration(86_399), "1 d 0 h"),
        (formats.shorten("abcdefgh", 5), "ab…gh"),
    ],
)
def test_numbers_as_people_read_them(shown, expected):
    assert shown == expected


def bars(counts, threshold, num_kept):
    return selections.kept_per_bin(
        selection(
            histogram_edges=[0.0, 1.0, 2.0, 3.0], histogram_counts=counts, threshold=threshold,
            num_kept=num_kept, num_candidates=sum(counts),
        )
    )  # fmt: skip


def test_a_bar_that_the_threshold_cuts_is_kept_in_part():
    assert bars([5, 4, 3], 1.5, 4) == [0, 1, 3]
    assert bars([5, 4, 3], 1.0, 7) == [0, 4, 3]
    assert bars([5, 4, 3], -9.0, 12) == [5, 4, 3]
    assert bars([5, 4, 3], 9.0, 2) == [0, 0, 2]


def test_bars_of_a_sample_need_not_add_up_to_what_was_kept():
    assert bars([5, 4, 3], 0.5, 2) == [0, 4, 3]
    assert bars([5, 4, 3], 2.5, 4) == [0, 0, 3]
    assert bars([5, 4, 3], None, 7) is None


def test_the_gap_is_taken_at_equal_tokens():
    def point(num_tokens, loss):
        return CurvePoint(0, num_tokens, 0.0, loss)

    baseline = [point(100, 6.0), point(200, 5.0)]
    student = [point(50, 7.0), point(100, 6.5), point(150, 5.25), point(300, 4.0)]
    points = gap_points(TrainingCurves("s", "student", "", [], student), baseline)
    assert [(each.x, each.y) for each in points] == [(100, 0.5), (150, -0.25)]


def test_thin_keeps_both_ends():
    points = [Point(i, 0.0) for i in range(1_000)]
    kept = thin(points, 5)
    assert [point.x for point in kept] == [0, 250, 500, 749, 999]
    assert thin(points[:5], 5) == points[:5]


def test_models_are_drawn_alike_everywhere_and_the_baseline_in_the_first_colour():
    styles = curves.model_styles(report(baseline="miniplm"))
    assert list(styles)[:4] == ["teacher", "reference", "miniplm", "plain"]
    assert styles["miniplm"].colour == "c0"
    assert len({(style.colour, style.marker) for style in styles.values()}) == len(styles)


def test_differences_point_by_sign_and_what_rounds_to_nothing_points_nowhere():
    assert tables.difference(4.9, 5.0, largest=0.1).kind == "better"
    assert tables.difference(4.9, 5.0, largest=0.1).strength == 40
    assert tables.difference(5.025, 5.0, largest=0.1).strength == 20
    assert tables.difference(5.025, 5.0).kind == "worse"
    assert tables.difference(5.0002, 5.0).kind == "even"
    assert tables.difference(None, 5.0) is None


def test_only_long_texts_get_a_preview():
    assert selections.preview("short\n") is None
    assert selections.preview("x" * 500) is None
    assert selections.preview("x" * 900) == "x" * selections.PREVIEW_CHARACTERS + " …"
    lines = "\n".join(f"a line of text, number {i}" for i in range(30))
    assert selections.preview(lines).count("\n") == selections.PREVIEW_LINES - 1


@pytest.mark.parametrize("module", [formats, scales, selections, tables])
def test_examples_in_docstrings_hold(module):
    failed, tried = doctest.testmod(module)
    assert failed == 0
    assert tried > 0


def test_a_study_comes_first_with_its_own_outcome():
    plain = StudyRow("plain", "0.5M", 2.5, 0.01, {1: 2.5, 2: 2.5})
    worse = StudyRow("worse", "0.5M", 2.6, 0.01, {1: 2.6, 2: 2.6}, 0.1, 0.0, 0.2, 0.5)
    good = StudyRow("good", "0.5M", 2.4, 0.01, {1: 2.4, 2: 2.4}, -0.1, -0.2, 0.0, 1.5)

    def seen(*rows):
        shown = headline(replace(report(), study=StudyContent("bits", "plain", rows)))
        assert shown.drawing is None
        return shown.figures[0]

    first = seen(plain, worse, good)
    assert (first.name, first.value) == ("Bits per byte against plain, 0.5M", "−0.1000")
    assert "good, the best of 2, mean of 2 seeds" in first.meaning
    assert first.meaning.endswith(
        "−0.2000 to 0.0000, so it may be chance; 1.50 times less compute to the same loss"
    )
    # a method that had more compute is not the outcome, unless there is no other
    dearer = replace(good, is_at_equal_compute=False)
    assert seen(plain, worse, dearer).value == "+0.1000"
    assert seen(plain, dearer).meaning.endswith("; not at equal training compute")


def test_students_of_several_baselines_are_compared_with_their_own():
    made = report()
    held_out = [
        replace(row, loss={"a": 3.0, "b": 2.9, "c": 2.0, "d": 2.2},
                bits_per_byte={"a": 1.5, "b": 1.4, "c": 1.0, "d": 1.1})
        for row in made.held_out
    ]  # fmt: skip
    models = [replace(made.models[-1], name=name, role="student") for name in "abcd"]
    content = replace(
        made, models=models, held_out=held_out, held_out_models=list("abcd"), baseline="a",
        baselines={"a": "a", "b": "a", "c": "c", "d": "c"},
    )  # fmt: skip
    styles = curves.model_styles(content)
    line = tables.held_out_table(content, styles, "bits_per_byte").lines[0]
    shown = [cell.difference and cell.difference.text for cell in line.cells]
    assert shown == [None, "−0.100", None, "+0.100"]
    assert headline(content).figures[0].value == "−0.1000"
    assert "than a in" in headline(content).figures[0].meaning
    alone = replace(content, baselines={"a": "a", "b": "a", "c": None, "d": None})
    line = tables.held_out_table(alone, styles, "bits_per_byte").lines[0]
    assert [cell.difference and cell.difference.text for cell in line.cells][2:] == [None, None]


@pytest.mark.parametrize(
    ("unit", "label"),
    [
        (BITS, "bits per byte of held-out text less those of plain"),
        (NATS, "held-out loss less that of plain, nats per token"),
    ],
)
def test_gaps_are_in_the_unit_of_their_curves(unit, label):
    content = replace(report(), curves=[replace(each, unit=unit) for each in report().curves])
    figures = curves.training_figures(content, curves.model_styles(content))
    assert all(label in variant.figure for variant in figures.gaps)
    assert {entry.unit for entry in figures.students} == {unit}


def test_the_page_says_first_what_was_compared():
    scored, trained = setup_sentences(report())
    assert scored.startswith("A teacher of 6.1M parameters and a reference of 620k parameters scor")
    assert scored.endswith("scored 41,000 candidate sequences; selection miniplm keeps 50.0 %.")
    assert trained.startswith(
        "4 students of 620k to 1.24M parameters were trained on 12M tokens each: pl"
    )
    many = replace(report(), selections=[selection(name=str(n), num_kept=n) for n in range(5)])
    assert "; 5 selections keep 0.0 % to " in setup_sentences(many)[0]
    alike = replace(report(), selections=[selection(name=str(n)) for n in range(5)])
    assert re.search(r"; 5 selections keep \d+\.\d %\.", setup_sentences(alike)[0])
    released = replace(report().models[0], origin="Qwen/Qwen1.5-1.8B", num_params=None)
    found = setup_sentences(replace(report(), models=[released, *report().models[1:3]]))
    assert found[0].startswith("The teacher Qwen/Qwen1.5-1.8B and a reference of 620k parameters")
    assert found[1].startswith("One student of 620k parameters was trained on 12M tokens: plain (")
    rows = [
        StudyRow(method, size, 2.5, None, {1: 2.5}) for method in ("plain", "m") for size in "ab"
    ]
    study = replace(report(), study=StudyContent("bits", "plain", rows))
    assert setup_sentences(study)[1] == (
        "4 students were trained: 2 methods (plain, m) at 2 sizes with 1 seed, each compared with "
        "plain of its size and seed."
    )
    assert setup_sentences(replace(report(), models=[])) == []


def test_curves_of_a_study_are_means_over_its_seeds():
    def curve(name, losses):
        points = [CurvePoint(s, 10 * s, 100.0 * s, loss) for s, loss in losses.items()]
        return TrainingCurves(name, "student", "all", [], points, BITS)

    rows = [
        StudyRow(method, "s", 2.5, 0.1, {1: 2.4, 2: 2.6}) for method in ("ours", "plain")
    ] + [StudyRow("plain", "m", 2.5, None, {1: 2.5})]  # fmt: skip
    made = [
        curve("ours-s-s1", {1: 4.0, 2: 3.0, 3: 2.0}), curve("ours-s-s2", {1: 3.0, 3: 1.0}),
        curve("plain-s-s1", {1: 4.0, 3: 3.0}), curve("plain-s-s2", {1: 4.0, 3: 3.5}),
        curve("plain-m-s1", {1: 2.0}), curve("alone", {1: 9.0}),
    ]  # fmt: skip
    content = replace(report(), curves=made, study=StudyContent("bits", "plain", rows))
    drawn, styles = seed_means(content)
    means = {each.model: [point.loss for point in each.held_out] for each in drawn.curves}
    assert means == {
        "alone": [9.0], "ours, s": [3.5, 1.5], "plain, s": [4.0, 3.25], "plain, m": [2.0],
    }  # fmt: skip
    assert drawn.baseline_of("ours, s") == "plain, s"
    assert (styles["plain, s"].colour, styles["ours, s"].colour) == ("c0", "c1")
    assert styles["plain, m"].colour == "c0"
    assert styles["plain, m"] != styles["plain, s"]
    assert seed_means(report()) == (report(), {})


def test_held_out_text_and_tasks_of_a_study_are_means_over_its_seeds():
    names = ["plain-s-s1", "plain-s-s2", "ours-s-s1", "ours-s-s2", "alone"]
    losses = dict(zip(names, [3.0, 3.4, 2.0, 2.4, 5.0], strict=True))
    held_out = [
        replace(row, loss=losses, bits_per_byte={name: loss / 2 for name, loss in losses.items()})
        for row in report().held_out
    ]
    results = [
        TaskResult("piqa", name, "acc", 0.5 + place / 10, 0.02 * (1 + place % 2), 0.5, 100)
        for place, name in enumerate(names)
    ]
    rows = [StudyRow(method, "s", 2.5, 0.1, {1: 2.4, 2: 2.6}) for method in ("plain", "ours")]
    made = replace(
        report(), held_out=held_out, held_out_models=names, study=StudyContent("b", "plain", rows),
        tasks=TaskContent(results, differences=[TaskDifference("piqa", *names[:2], 0, -1, 1)]),
        tokenizers=dict.fromkeys(names, "one"),
    )  # fmt: skip
    drawn, styles = seed_means(made)
    assert drawn.held_out_models == ["alone", "plain, s", "ours, s"]
    table = tables.held_out_table(drawn, styles, "loss")
    assert [cell.value for cell in table.lines[0].cells] == pytest.approx([5.0, 3.2, 2.2])
    assert [c.difference and c.difference.text for c in table.lines[0].cells] == [
        None, None, "−1.000",
    ]  # fmt: skip
    found = {each.model: (each.value, each.standard_error) for each in drawn.tasks.results}
    assert found == {
        "alone": (0.9, 0.02), "plain, s": pytest.approx((0.55, 0.03)),
        "ours, s": pytest.approx((0.75, 0.03)),
    }  # fmt: skip
    assert drawn.tasks.differences == []


@pytest.mark.parametrize(("speed", "said"), [(2.0, "2.00"), (0.5, "0.50")])
def test_a_saving_is_told_whichever_way_it_went(speed, said):
    def curve(name, factor):
        points = [
            CurvePoint(step, 10 * step, 100.0 * step, 5 - factor * step / 100)
            for step in range(1, 101)
        ]
        return TrainingCurves(name, "student", "all", [], points)

    manifest = SimpleNamespace(facts={"num_params": 100})
    record = SimpleNamespace(
        run=SimpleNamespace(study=None, run_dir="run"),
        manifests={"train/plain": manifest, "train/ours": manifest},
    )
    found = read_scaling(record, [curve("plain", 1.0), curve("ours", speed)])
    assert (
        f"plain needs {said} times the training compute of ours, 100 to reach" in found.findings[0]
    )
