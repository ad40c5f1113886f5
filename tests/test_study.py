"""A study: its students, the teacher's lead before them, and the tables of them."""

import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import tiny_recipe

from miniplm.cli import main
from miniplm.errors import ArtefactError, ConfigError
from miniplm.evaluation.documents import Documents
from miniplm.planning.basis import Basis
from miniplm.planning.gathered import gather_seeds
from miniplm.planning.plan import StepPlan
from miniplm.planning.training import training_cost
from miniplm.preflight import preflight
from miniplm.recipe import load_recipe, make_recipe, override_recipe
from miniplm.recipe_text import recipe_yaml
from miniplm.road.road import Road
from miniplm.scaling.curves import CurvePoint, LossCurve
from miniplm.study.collect import read_results
from miniplm.study.config import Member
from miniplm.study.diagnosis import lead_sentences
from miniplm.study.gain import FEWEST_ROWS, Sampled, correlate
from miniplm.study.lead import DomainLead, Lead, LeadSums
from miniplm.study.results import StudentResult, ahead_from, compare, compute_saved
from miniplm.study.summary import Spread, summarise
from miniplm.study.tables import domain_lines, markdown_table, students_table, summary_lines
from miniplm.study.verdict import study_sentences
from miniplm.study_run import copy_results, run_study


def study_content(corpus_folder, run_dir, **study):
    content = tiny_recipe(corpus_folder, run_dir)
    shape = content.pop("students")["plain"]["shape"]
    content["study"] = {
        "seeds": [1, 2],
        "gain_rows": 40,
        "sizes": {"small": {"shape": shape}},
        "methods": {"plain": {}, "miniplm": {"corpus": "refined"}},
        **study,
    }
    return content


def test_every_method_size_and_seed_is_a_student(corpus_folder, tmp_path):
    shape = tiny_recipe(corpus_folder, tmp_path)["reference"]["shape"]
    sizes = {
        "small": {"shape": shape, "training": {"lr": 2e-3}},
        "wide": {"shape": {**shape, "hidden_size": 32}},
    }
    methods = {"plain": {}, "kd": {"training": {"method": "vanilla_kd", "budget": {"flops": 1e9}}}}
    content = study_content(corpus_folder, tmp_path, sizes=sizes, methods=methods)
    recipe = make_recipe(content, "test")
    assert list(recipe.students) == [
        "plain-small-s1", "kd-small-s1", "plain-wide-s1", "kd-wide-s1",
        "plain-small-s2", "kd-small-s2", "plain-wide-s2", "kd-wide-s2",
    ]  # fmt: skip
    training = recipe.student_training("kd-small-s2")
    assert (training.method, training.lr, training.seed) == ("vanilla_kd", 2e-3, 2)
    assert (training.budget.steps, training.budget.flops) == (None, 1e9)
    assert recipe.student_training("plain-wide-s1").budget.steps == 6


def test_a_method_can_have_a_share_of_the_budget(corpus_folder, tmp_path):
    shape = tiny_recipe(corpus_folder, tmp_path)["reference"]["shape"]
    sizes = {
        "small": {"shape": shape},
        "long": {"shape": shape, "training": {"budget": {"flops": 1e9}}},
    }
    methods = {
        "plain": {},
        "short": {
            "corpus": "refined", "budget_share": 0.5, "training": {"lr": 1e-3, "budget": {}}
        },
    }  # fmt: skip
    content = study_content(corpus_folder, tmp_path, sizes=sizes, methods=methods)
    recipe = make_recipe(content, "test")
    assert recipe.student_training("short-small-s1").budget.steps == 3
    assert recipe.student_training("plain-small-s1").budget.steps == 6
    budget = recipe.student_training("short-long-s2").budget
    assert (budget.steps, budget.flops) == (None, 5e8)
    assert recipe.student_training("plain-long-s2").budget.flops == 1e9


def test_a_recipe_is_written_down_as_it_was_given(corpus_folder, tmp_path):
    content = study_content(corpus_folder, tmp_path)
    recipe = make_recipe(content, "test")
    written = yaml.safe_load(recipe_yaml(recipe))
    assert "students" not in written
    assert list(make_recipe(written, "again").students) == list(recipe.students)
    fewer = override_recipe(recipe, ["study.seeds=[2]"], "test")
    assert list(fewer.students) == ["plain-small-s2", "miniplm-small-s2"]


def test_two_students_of_one_name_are_refused(corpus_folder, tmp_path):
    shape = study_content(corpus_folder, tmp_path)["study"]["sizes"]["small"]
    content = study_content(
        corpus_folder, tmp_path, sizes={"b-c": shape, "c": shape}, methods={"a": {}, "a-b": {}}
    )
    with pytest.raises(ConfigError, match="both be called a-b-c-s1; rename"):
        make_recipe(content, "test")


def test_students_by_name_stand_beside_a_study(corpus_folder, tmp_path):
    content = study_content(corpus_folder, tmp_path)
    shape = content["study"]["sizes"]["small"]["shape"]
    recipe = make_recipe({**content, "students": {"mine": {"shape": shape}}}, "test")
    assert list(recipe.students) == ["mine", *(m.name for m in recipe.study.members)]
    assert list(yaml.safe_load(recipe_yaml(recipe))["students"]) == ["mine"]
    with pytest.raises(ConfigError, match="the study has one of this name"):
        make_recipe({**content, "students": {"plain-small-s1": {"shape": shape}}}, "test")


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"seeds": [1, 1]}, "each once"),
        ({"seeds": []}, "study.seeds"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"methods": {}}, "study.methods"),
        ({"methods": {"plain": {"training": {"seed": 3}}}}, "seeds are those of study.seeds"),
        (
            {"methods": {"m": {"budget_share": 0.5, "training": {"budget": {"flops": 1e9}}}}},
            "give training.budget or budget_share, not both",
        ),
        ({"methods": {"m": {"budget_share": 0}}}, "greater than 0"),
        (
            {"methods": {"m": {"corpus": "refned"}}},
            "study.methods.m.corpus: there is no 'refned'; choose one of",
        ),
        (
            {"methods": {"m": {"training": {"kd_ratio": 0.5}}}},
            "study.methods.m.training.kd_ratio: only",
        ),
        ({"methods": {"a b": {}}}, "study.methods.a b: becomes a folder"),
        ({"sizs": {}}, "did you mean 'sizes'"),
    ],
)
def test_faults_of_a_study_are_told_once(corpus_folder, tmp_path, study, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_recipe(study_content(corpus_folder, tmp_path, **study), "test")
    assert str(caught.value).count(message) == 1


def test_faults_of_all_students_are_told_where_they_were_written(corpus_folder, tmp_path):
    content = study_content(corpus_folder, tmp_path)
    shape = content["study"]["sizes"]["small"]["shape"]
    content["study"]["sizes"] = {
        "0.1M": {"shape": shape, "training": {"reweighting": {"kind": "static"}}},
        "odd": {"shape": {**shape, "num_heads": 3}},
    }
    content["study"]["methods"]["mixed"] = {"corpus": {"refined": 0.5, "candidates": 0.4}}
    content["study"]["methods"]["written"] = {"training": {"method": "seqkd"}}
    content["students"] = {"mine": {"shape": shape, "corpus": "refned"}}
    with pytest.raises(ConfigError) as caught:
        make_recipe(content, "test")
    places = [fault.partition(": ")[0] for fault in caught.value.faults]
    assert places == [
        "students.mine.corpus",
        "study.methods.mixed.corpus",
        "study.sizes.0.1M.training.reweighting.kind",
        "study.methods.written.training.method",
    ]
    del content["study"]["methods"]["mixed"], content["study"]["methods"]["written"]
    content["students"]["mine"]["corpus"] = "refined"
    with pytest.raises(ConfigError) as caught:
        preflight(make_recipe(content, "test"))
    assert [fault.partition(": ")[0] for fault in caught.value.faults] == ["study.sizes.odd"]


def test_faults_of_shared_fields_are_told_where_they_were_written(corpus_folder, tmp_path):
    content = study_content(corpus_folder, tmp_path)
    sizes, methods = content["study"]["sizes"], content["study"]["methods"]
    sizes["_big"] = {**sizes["small"]}
    sizes["small"]["training"] = {"reweighting": {"normalization": "per_byte"}}
    methods["tokens"] = {"training": {"reweighting": {"kind": "dynamic_tokens"}}}
    content["scoring"] = {"per_token": True}
    with pytest.raises(ConfigError) as caught:
        make_recipe(content, "test")
    (fault,) = caught.value.faults
    assert fault.startswith("study.sizes.small.training.reweighting.normalization: ")
    del sizes["small"]["training"], methods["tokens"], content["scoring"]
    content["training"] = {**content["training"], "reweighting": {"kind": "dynamic_tokens"}}
    with pytest.raises(ConfigError) as caught:
        make_recipe(content, "test")
    places = {fault.partition(": ")[0] for fault in caught.value.faults}
    assert places == {"training.reweighting.kind"}


def test_students_held_apart_read_no_candidate(corpus_folder, tmp_path):
    recipe = make_recipe(study_content(corpus_folder, tmp_path), "test")
    quarter, whole = recipe.held_apart.values()
    assert (quarter.training.budget.steps, whole.training.budget.steps) == (1, 6)
    road = Road(recipe)
    assert road.step("train/held-apart").spec.config["split"] == "teacher"
    names = [step.name for step in road.steps]
    assert names.index("diagnose") < names.index("train/plain-small-s1")
    assert "evaluate/held-apart" not in names
    none = make_recipe(study_content(corpus_folder, tmp_path, gain_rows=0), "test")
    assert none.held_apart == {}


# the teacher's lead


def test_the_lead_in_each_domain_worked_by_hand():
    sums = LeadSums()
    teacher = np.array([-1.0, -2.0, -5.0, np.nan])
    reference = np.array([-3.0, -2.0, -4.0, -1.0])
    sums.add(teacher, reference, ["books", "law"], np.array([0, 0, 1, 1]))
    lead = sums.lead()
    books, law = lead.domains
    assert (books.domain, books.num_rows, books.teacher, books.reference) == ("books", 2, 1.5, 2.5)
    assert (books.ahead, books.deviation, books.behind) == (1.0, 1.0, 0.0)
    assert (law.ahead, law.deviation, law.behind) == (-1.0, 0.0, 1.0)
    # scores 2, 0, -1: mean 1/3, sum of squares 14/3, of which 2 within books
    assert lead.between == pytest.approx(1 - 2 / (14 / 3))


@given(st.lists(st.tuples(st.floats(-9, 0), st.floats(-9, 0), st.integers(0, 2)), min_size=1),
       st.integers(1, 5))  # fmt: skip
def test_the_lead_does_not_depend_on_blocks(rows, size):
    names = ["a", "b", "c"]
    teacher, reference = (np.array([row[k] for row in rows]) for k in (0, 1))
    numbers = np.array([row[2] for row in rows])
    whole, parts = LeadSums(), LeadSums()
    whole.add(teacher, reference, names, numbers)
    for begin in range(0, len(rows), size):
        some = slice(begin, begin + size)
        parts.add(teacher[some], reference[some], names[::-1], 2 - numbers[some])
    one, other = whole.lead(), parts.lead()
    assert one.between == pytest.approx(other.between, abs=1e-9)
    for mine, theirs in zip(one.domains, other.domains, strict=True):
        assert mine.domain == theirs.domain
        assert mine.ahead == pytest.approx(theirs.ahead, abs=1e-9)
        assert mine.deviation == pytest.approx(theirs.deviation, abs=1e-6)


def test_a_lead_that_is_the_same_everywhere_has_no_variance():
    sums = LeadSums()
    sums.add(np.full(3, -1.0), np.full(3, -2.0), ["a", "b"], np.array([0, 1, 1]))
    assert sums.lead().between == 0.0


def test_gain_correlates_within_domains_and_over_all():
    size = FEWEST_ROWS
    difference = np.concatenate([np.arange(size), 100 + np.arange(size), [7.0]])
    gain = np.concatenate([np.arange(size), -np.arange(size) - 100, [1.0]]).astype(float)
    numbers = np.repeat([0, 1, 2], [size, size, 1])
    found = correlate(Sampled(("up", "down", "few"), numbers, difference, gain))
    assert found.by_domain == {"down": pytest.approx(-1), "up": pytest.approx(1)}
    assert found.within == pytest.approx(0)
    assert found.overall < 0
    assert found.mean_gain["few"] == 1.0


# results


def curve(losses, student="x", scale=1.0, lr=1.0):
    points = [
        CurvePoint(10 * place, scale * 100.0 * place, loss, lr)
        for place, loss in enumerate(losses, 1)
    ]
    return LossCurve(student, "run", tuple(points))


def result(method, seed, losses, size="small", by_domain=None, scale=1.0):
    domains = by_domain or {"books": losses[-1] + 0.1, "law": losses[-1] - 0.1, "noise": 9.0}
    clean = [value for name, value in domains.items() if name != "noise"]
    return StudentResult(
        member=Member(method, size, seed),
        num_params=10,
        num_tokens=10 * len(losses),
        flops=scale * 100.0 * len(losses),
        seconds=1.0,
        loss=losses[-1],
        bits_per_byte=sum(clean) / len(clean),
        all_text=losses[-1] + 1,
        set_apart=9.0,
        by_domain=domains,
        apart=frozenset({"noise"}),
        curve=curve(losses, scale=scale),
    )


def test_documents_too_unlike_to_compare_leave_out_an_interval(caplog):
    def measured(method, num_bytes):
        table = pl.DataFrame(
            {"domain": ["books"] * 9, "document": [str(n) for n in range(9)],
             "log_prob": [-9.0] * 9, "num_tokens": [5] * 9, "num_bytes": [num_bytes] * 9}
        )  # fmt: skip
        return replace(result(method, 1, [3.0, 2.0]), documents=Documents(table))

    results = [measured("plain", 14), measured("short", 9), measured("like", 14)]
    (_, short, like) = summarise(results, compare(results, "plain"))
    assert short.paired is None
    assert short.difference is not None
    assert like.paired is not None
    assert "no interval over documents for short" in caplog.text


def test_only_domains_that_both_were_measured_in_are_compared():
    plain = result("plain", 1, [3.0], by_domain={"books": 3.0, "law": 2.0, "noise": 9.0})
    foreign = result("foreign", 1, [3.0], by_domain={"news": 1.0, "books": 3.5, "noise": 9.0})
    for student, baseline, sign in ((foreign, plain, 1), (plain, foreign, -1)):
        (found,) = compare([student, baseline], baseline.member.method)
        assert found.difference == sign * 0.5
        assert (found.domains_better, found.num_domains) == (sign == -1, 1)
    assert domain_lines([plain, foreign]) == [
        ["domain", "plain, small", "foreign, small"],
        ["books", "3.0000", "3.5000"],
        ["law", "2.0000", "nothing to predict"],
        ["noise (set apart)", "9.0000", "9.0000"],
        ["news", "nothing to predict", "1.0000"],
    ]


def test_compute_saved_is_read_at_the_worse_final_loss():
    plain, better = curve([4.0, 3.0, 2.0, 2.0]), curve([3.0, 2.0, 1.5, 1.0])
    assert compute_saved(better, plain) == (pytest.approx(300 / 200), False)
    assert compute_saved(plain, better) == (pytest.approx(200 / 300), False)
    assert compute_saved(plain, plain) == (1.0, False)
    apart = curve([9.0, 8.0])
    assert compute_saved(curve([4.0, 3.0]), apart) == (None, False)  # when it got there is unknown


def test_where_a_curve_gets_ahead():
    plain = curve([4.0, 3.0, 2.5, 2.2])
    assert ahead_from(curve([4.1, 3.1, 2.4, 2.0]), plain) == 0.75
    assert ahead_from(curve([3.9, 2.9, 2.4, 2.0]), plain) == 0.0
    assert ahead_from(curve([3.9, 2.9, 2.4, 2.3]), plain) is None
    assert ahead_from(plain, plain) is None
    assert ahead_from(curve([2.0]), curve([2.1])) == 0.0
    assert ahead_from(curve([2.1]), curve([2.0])) is None


def test_a_student_is_compared_with_the_baseline_of_its_size_and_seed():
    results = [
        result("plain", 1, [4.0, 3.0]),
        result("plain", 2, [4.0, 2.0]),
        result("miniplm", 1, [4.0, 2.5], by_domain={"books": 3.2, "law": 1.8, "noise": 1.0}),
        result("miniplm", 2, [4.0, 1.9], scale=1.1),
        result("miniplm", 3, [4.0, 1.0]),
    ]
    first, second = compare(results, "plain")
    assert first.difference == pytest.approx(-0.5)
    assert (first.domains_better, first.num_domains) == (1, 2)
    assert first.at_equal_compute
    assert not second.at_equal_compute
    assert second.difference == pytest.approx(-0.1)
    assert [c.student.member.seed for c in compare(results, "plain")] == [1, 2]


def test_spreads_over_seeds():
    spread = Spread((1.0, 2.0, 3.0))
    assert (spread.mean, spread.deviation) == (2.0, 1.0)
    low, high = spread.interval
    assert (high - low) / 2 == pytest.approx(4.302653 / math.sqrt(3))  # t of 2 degrees of freedom
    assert Spread((1.0,)).interval is None


def test_twice_and_half_of_the_compute_come_to_as_much():
    """The mean of the ratios 2 and 1/2 would be 1.25: a saving that is none."""
    plain, quick = [4.0, 3.0, 2.0, 1.0], [3.0, 1.0, 1.0, 1.0]
    results = [
        result("plain", 1, plain), result("m", 1, quick),
        result("plain", 2, quick), result("m", 2, plain),
    ]  # fmt: skip
    (_, found) = summarise(results, compare(results, "plain"))
    assert found.compute_saved.values == (2.0, 0.5)
    assert summary_lines([found])[1][11] == "1.00x (0.50 to 2.00)"
    assert "as much training compute" in study_sentences([found], "plain")[0]


def test_less_compute_is_said_and_counts_as_saved():
    plain, short = result("plain", 1, [4.0, 3.0, 2.0, 1.5]), result("short", 1, [3.0, 1.4])
    summaries = summarise([plain, short], compare([plain, short], "plain"))
    assert not summaries[1].at_equal_compute
    assert summaries[1].compute_saved.values[0] >= 2
    assert summary_lines(summaries)[2][1] == "short (0.50 times the compute)"
    sentences = study_sentences(summaries, "plain")
    assert sentences[0].startswith("small: short (0.50 times the compute) is better than plain")


def test_tables_and_sentences_say_what_the_results_are():
    results = [
        result(method, seed, [4.0, loss + 0.01 * seed])
        for method, loss in (("plain", 3.0), ("good", 2.5), ("bad", 3.5))
        for seed in (1, 2, 3)
    ]
    comparisons = compare(results, "plain")
    summaries = summarise(results, comparisons)
    assert [line.method for line in summaries] == ["plain", "good", "bad"]
    good = summaries[1]
    assert good.difference.mean == pytest.approx(-0.5)
    assert good.seeds_better == 3
    sentences = study_sentences(summaries, "plain")
    assert sentences[0] == "At small, good is better than plain; bad is worse than plain."
    assert sentences[1].startswith("small: good is better than plain: -0.5000 bits per byte")
    assert "better in 3 of 3 seeds and 2 of 2 domains; " in sentences[1]
    assert sentences[2].startswith("small: bad is worse than plain")
    assert "times the training compute to the same loss" in sentences[2]
    lines = summary_lines(summaries)
    assert {len(line) for line in lines} == {len(lines[0])}
    assert lines[1][6] == "baseline"
    table = students_table(results, comparisons)
    assert table["difference"].null_count() == 3
    assert table.filter(pl.col("method") == "good")["difference"].to_list() == pytest.approx(
        [-0.5] * 3
    )
    by_domain = domain_lines(results)
    assert by_domain[0] == ["domain", "plain, small", "good, small", "bad, small"]
    assert by_domain[3][0] == "noise (set apart)"
    assert markdown_table(lines).count("\n") == len(lines)


def test_seeds_that_differ_leave_the_outcome_open():
    results = [
        result(method, seed, [4.0, loss])
        for method, losses in (("plain", (3.0, 3.0)), ("m", (2.0, 3.9)))
        for seed, loss in enumerate(losses)
    ]
    sentences = study_sentences(summarise(results, compare(results, "plain")), "plain")
    assert "m cannot be told from plain" in sentences[0]
    alone = study_sentences(summarise(results[:1], []), "plain")
    assert alone == ["There is nothing to compare yet: no student besides plain is finished."]
    assert study_sentences([], "plain")[0].endswith("yet: no student is finished.")


def test_compute_saved_in_one_seed_and_lost_in_another_comes_to_nothing():
    results = [
        result(method, seed, losses)
        for method, seed, losses in (
            ("plain", 1, [4.0, 3.0, 2.0, 2.0]), ("plain", 2, [3.0, 2.0, 1.5, 1.0]),
            ("m", 1, [3.0, 2.0, 1.5, 1.0]), ("m", 2, [4.0, 3.0, 2.0, 2.0]),
        )
    ]  # fmt: skip
    summary = summarise(results, compare(results, "plain"))[1]
    assert summary.compute_saved.values == (pytest.approx(1.5), pytest.approx(1 / 1.5))
    assert summary.compute_saved.geometric_mean == pytest.approx(1.0)
    assert "as much training compute to the same loss" in study_sentences([summary], "plain")[0]
    assert "1.00x (0.67 to 1.50)" in summary_lines([summary])[1]
    assert not summary.saved_is_cautious


def test_a_saving_that_every_curve_understates_is_at_least_so():
    def falling(method, losses):
        made = result(method, 1, losses)
        points = [
            replace(point, lr=lr) for point, lr in zip(made.curve.points, (1, 0.1), strict=True)
        ]
        return replace(made, curve=replace(made.curve, points=tuple(points)))

    results = [falling("plain", [4.0, 3.0]), falling("m", [3.0, 2.0])]
    sentences = study_sentences(summarise(results, compare(results, "plain")), "plain")
    assert sentences[0].endswith("; at least 2.00 times less training compute to the same loss.")


def test_many_comparisons_say_that_some_come_out_by_chance():
    results = [
        result(method, seed, [4.0, 3.0 + 0.1 * seed])
        for method in ("plain", "a", "b", "c", "d", "e")
        for seed in (1, 2)
    ]
    summaries = summarise(results, compare(results, "plain"))
    sentences = study_sentences(summaries, "plain")
    assert sentences[0] == "At small, a, b, c, d and e cannot be told from plain."
    assert "There are 5 of them at 95 %" in sentences[-1]
    short = study_sentences(summaries, "plain", each=False)
    assert short == [sentences[0], sentences[-1]]
    alone = study_sentences(summaries[:2], "plain", each=False)
    assert alone[0].startswith("small: a cannot be told from plain")


def test_a_plan_shows_seeds_in_one_line(corpus_folder, tmp_path):
    recipe = make_recipe(study_content(corpus_folder, tmp_path), "test")

    def planned(name, state="missing"):
        return StepPlan(
            name, state, 10.0, 5.0, None, 0.5, None if state == "complete" else 7.0, "n"
        )

    steps = [planned("tokenize", "complete")]
    steps += [planned(f"train/{m.name}", "complete" if m.seed == 1 else "missing")
              for m in recipe.study.members]  # fmt: skip
    shown = gather_seeds(steps, recipe)
    assert [step.name for step in shown] == [
        "tokenize", "train/plain-small x2", "train/miniplm-small x2",
    ]  # fmt: skip
    assert shown[1].state == "1 of 2"
    assert (shown[1].num_tokens, shown[1].hours, shown[1].memory) == (20.0, 1.0, 7.0)


def test_a_student_called_as_a_method_and_size_stays_by_itself(corpus_folder, tmp_path):
    content = study_content(corpus_folder, tmp_path)
    shape = content["study"]["sizes"]["small"]["shape"]
    recipe = make_recipe({**content, "students": {"plain-small": {"shape": shape}}}, "test")
    steps = [StepPlan(f"train/{name}", "missing", 1.0, 1.0, None, 0.5, None, "n")
             for name in recipe.students]  # fmt: skip
    assert [step.name for step in gather_seeds(steps, recipe)] == [
        "train/plain-small", "train/plain-small x2", "train/miniplm-small x2",
    ]  # fmt: skip


# a whole one


@pytest.fixture(scope="module")
def finished(tmp_path_factory, corpus_folder):
    folder = tmp_path_factory.mktemp("study")
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study_content(corpus_folder, folder / "run")), encoding="utf-8")
    recipe = load_recipe(path)
    return recipe, run_study(recipe)


def test_domains_where_the_teacher_is_behind_are_said():
    ahead = DomainLead("books", 5, 1.0, 2.0, 0.1, 0.0)
    behind = DomainLead("noise", 5, 3.0, 2.0, 0.1, 1.0)
    said = " ".join(lead_sentences(Lead((ahead, behind), 0.1), None))
    assert "It is not ahead in noise: such text scores low and goes first." in said
    assert "not ahead" not in " ".join(lead_sentences(Lead((ahead,), 0.0), None))


def test_a_teacher_without_some_domains_is_another_one(corpus_folder, tmp_path):
    recipe = make_recipe(study_content(corpus_folder, tmp_path), "test")
    one, other = (Road(override_recipe(recipe, words, "test"))
                  for words in ([], ["teacher.leave_out=[code]"]))  # fmt: skip
    for name, is_same in (("train/teacher", False), ("train/reference", True)):
        same = one.step(name).spec.fingerprint == other.step(name).spec.fingerprint
        assert same == is_same
    assert "leave_out" not in one.step("train/teacher").spec.config
    notes = [training_cost(Basis(road.recipe, road), "teacher").note for road in (one, other)]
    assert ["at least" in note for note in notes] == [False, True]


def test_a_study_runs_to_its_tables(finished):
    recipe, view = finished
    run_dir = view.run_dir
    students = pl.read_parquet(run_dir / "study/students.parquet")
    assert students["student"].to_list() == [member.name for member in recipe.study.members]
    for name, bits in students.select("student", "bits_per_byte").iter_rows():
        manifest = json.loads((run_dir / "evaluate" / name / "manifest.json").read_text())
        average = manifest["facts"]["held_out"][-2]
        assert bits == average["bits_per_byte"]
    curves = pl.read_parquet(run_dir / "study/curves.parquet")
    assert curves.group_by("student").len()["len"].to_list() == [2] * 4  # steps 3 and 6
    text = (run_dir / "study/results.md").read_text()
    assert all(sentence in text for sentence in view.sentences)
    assert re.search(
        r"own score\n\n.*\n[|-]+\n(\| small \| [^|]+ (\| [+-]0\.\d{4} ± 0\.\d{4} ){3}\|)\n", text
    )
    # a seed changes the weights, so that two seeds do not give one result twice
    assert students["bits_per_byte"].n_unique() == 4


def test_the_lead_was_measured_before_students_were_trained(finished):
    _, view = finished

    def read(name):
        return json.loads((view.run_dir / name / "manifest.json").read_text())

    diagnosis = read("diagnose")
    assert diagnosis["finished"] <= read("train/plain-small-s1")["finished"]
    assert diagnosis["facts"]["gain"]["num_rows"] > 0
    assert (
        sum(line["num_rows"] for line in diagnosis["facts"]["domains"])
        == (read("score/teacher")["counts"]["sequences"])
    )
    rows = diagnosis["facts"]["gain"]["num_rows"]
    full = read("score/reference")  # of the same shape, over all rows
    part = rows / full["counts"]["sequences"]
    assert diagnosis["flops"] == pytest.approx(2 * part * full["flops"], rel=0.15)
    page = (view.run_dir / "report/index.html").read_text(encoding="utf-8")
    assert "what students held apart gain" in page


def test_evaluations_that_are_no_number_are_left_out(finished, tmp_path):
    recipe, view = finished
    run_dir = shutil.copytree(view.run_dir, tmp_path / "run")
    member = recipe.study.members[0]
    path = run_dir / "train" / member.name / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    first, *_ = [line for line in lines if "held_out" in line and line["flops"] > 0]
    first["held_out"] = dict.fromkeys(first["held_out"], math.nan)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,) = read_results(run_dir, [member])
    assert [point.flops for point in found.curve.points] == [lines[-1]["flops"]]


def test_a_sample_of_domains_set_apart_alone_has_no_curve(finished, tmp_path):
    recipe, view = finished
    run_dir = shutil.copytree(view.run_dir, tmp_path / "run")
    member = recipe.study.members[0]
    path = run_dir / "train" / member.name / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    domain = next(iter(lines[0]["held_out"]))
    for line in lines:
        if "held_out" in line:
            line["held_out"] = {domain: 1.0}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = run_dir / "evaluate" / member.name / "manifest.json"
    content = json.loads(manifest.read_text())
    for line in content["facts"]["held_out"]:
        line["set_apart"] = line["domain"] == domain
    manifest.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match="held_out_sequences_while_training"):
        read_results(run_dir, [member])


def test_a_finished_study_is_only_looked_at(finished):
    recipe, view = finished
    again = run_study(recipe, so_far=True)
    assert again.lines == view.lines
    assert again.sentences[0] == "4 of 4 students are finished."
    more = override_recipe(recipe, ["study.seeds=[1,2,3]"], "test")
    assert run_study(more, so_far=True).sentences[0] == "4 of 6 students are finished."


def test_results_are_copied_without_weights_and_text(finished, tmp_path):
    _, view = finished
    copy_results(view.run_dir, tmp_path / "small")
    names = {str(path.relative_to(tmp_path / "small")) for path in (tmp_path / "small").rglob("*")}
    wanted = ("study/results.md", "report/index.html", "used_recipe.yaml",
              "train/teacher/manifest.json", "train/plain-small-s1/metrics.jsonl")  # fmt: skip
    assert names.issuperset(wanted)
    assert not [name for name in names if name.endswith((".bin", ".safetensors"))]
    with pytest.raises(ArtefactError, match="exists"):
        copy_results(view.run_dir, tmp_path / "small")
    with pytest.raises(ArtefactError, match="holds no results yet"):
        copy_results(tmp_path / "nothing", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_folder_of_results_that_exists_is_refused_before_the_study(corpus_folder, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study_content(corpus_folder, tmp_path / "run")))
    result = CliRunner().invoke(main, ["study", str(path), "--results", str(tmp_path)])
    assert "exists; name a new folder" in result.output
    assert not (tmp_path / "run").exists()


def test_a_recipe_without_a_study_is_refused(corpus_folder, tmp_path):
    with pytest.raises(ConfigError, match="list seeds, sizes and methods"):
        run_study(make_recipe(tiny_recipe(corpus_folder, tmp_path), "test"))
