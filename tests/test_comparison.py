"""Runs side by side: told apart, compared where they compare, and said where they do not."""

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner

from browser import visit
from made_up_evidence import tasks
from made_up_report import report, selection
from miniplm.cli import main
from miniplm.errors import ArtefactError, ConfigError, StageNotReadyError
from miniplm.evaluation.averages import AVERAGES
from miniplm.report.compare_runs import compare_runs
from miniplm.report.compared_runs import ComparedRun, compares, name_runs
from miniplm.report.comparison import compare
from miniplm.report.headline import headline
from miniplm.report.model_content import BITS, HeldOutRow
from miniplm.report.results import read_results, write_results
from test_report_page import check, poisoned


def make_run(folder, content, tokenizer="one"):
    (folder / "report").mkdir(parents=True)
    write_results(content, tokenizer, folder / "report")
    return folder


def content(**changes):
    names = {model.name: "" for model in report().models}
    return report(tokenizers=names, tasks=tasks(), **changes)


def better(by):
    """The same run, every student's bits per byte lower."""
    rows = [
        HeldOutRow(r.domain, r.num_bytes, r.loss, {n: b - by for n, b in r.bits_per_byte.items()})
        for r in content().held_out
    ]
    models = [dataclasses.replace(m, bits_per_byte=m.bits_per_byte - by) for m in content().models]
    return content(held_out=rows, models=models, title="Another run")


@pytest.fixture
def runs(tmp_path):
    return [make_run(tmp_path / "a", content()), make_run(tmp_path / "b", better(0.25))]


def cells(page, heading, column):
    """All rows that start so, in the table that has this column."""
    (table,) = [t for t in page.tables if column in [cell.strip() for cell in t[0]]]
    return [[c.strip() for c in row[1:]] for row in table[1:] if row[0].strip() == heading]


def test_results_come_back_as_they_were(runs):
    found = read_results(runs[0])
    made = content()
    assert found.models == made.models
    assert found.held_out == made.held_out
    assert found.curves == made.curves
    assert found.tasks == made.tasks
    assert found.selections[0].domains == made.selections[0].domains
    assert set(found.tokenizers.values()) == {"one"}


def test_all_models_stand_beside_each_other_with_differences_from_the_first(runs, tmp_path):
    page = check(compare_runs(runs, tmp_path / "out/page.html").read_text(encoding="utf-8"))
    first, second = cells(page, "plain", "against baseline")
    assert (first[0], second[0]) == ("a", "b")
    bits = next(model.bits_per_byte for model in content().models if model.name == "plain")
    assert (first[-2], first[-1]) == (f"{bits:.3f}", "–")
    assert (second[-2], second[-1]) == (f"{bits - 0.25:.3f}", "−0.250")
    assert len(cells(page, "teacher", "against baseline")) == 2
    kept = cells(page, "miniplmtop_ratio, 50% of the sequences", "Share")
    assert [row[0] for row in kept] == ["a", "b"]


def test_curves_of_both_runs_are_drawn(chromium, runs, tmp_path):
    path = compare_runs(runs, tmp_path / "page.html")
    with visit(chromium, path) as seen:
        last = {each.model: each.held_out[-1].loss for each in content().curves}
        for run in "ab":
            marks = (
                f'#training figure:first-of-type .variant.shown .point[data-model="{run}: miniplm"]'
            )
            assert seen.attributes(marks, "data-y")[-1] == [last["miniplm"]]
    with visit(chromium, path, width=390) as seen:
        assert seen.script("() => document.documentElement.scrollWidth") <= 390


def test_other_text_and_other_tokenizers_are_said_and_not_compared(runs, tmp_path):
    rows = [dataclasses.replace(row, num_bytes=row.num_bytes * 2) for row in content().held_out]
    other = make_run(tmp_path / "c", content(held_out=rows), tokenizer="two")
    text = compare_runs([*runs, other], tmp_path / "page.html").read_text(encoding="utf-8")
    page = check(text)
    assert "c was measured on other held-out documents than a" in text
    assert "c: plain, c: miniplm" in text
    assert [row[-1] for row in cells(page, "plain", "against baseline")][2] == "–"
    assert 'data-model="c: plain"' not in text


def test_other_documents_of_the_same_size_are_other_text(tmp_path):
    def named(digest):
        rows = [
            dataclasses.replace(row, documents_digest=None if row.domain in AVERAGES else digest)
            for row in content().held_out
        ]
        return ComparedRun(digest or "unknown", dataclasses.replace(known, held_out=rows))

    known = read_results(make_run(tmp_path / "a", content()))
    one, other, unknown = named("one"), named("other"), named(None)
    assert compares(one, one)
    assert compares(one, unknown)
    assert not compares(one, other)
    (note,) = compare([one, other], "now").notes
    assert "other was measured on other held-out documents than one" in note


def noise_apart(rows, name):
    return [dataclasses.replace(row, set_apart=row.domain == name) for row in rows]


def test_domains_set_apart_stay_so_and_other_averages_do_not_compare(runs, tmp_path):
    rows = content().held_out
    name = next(row.domain for row in rows if row.domain not in AVERAGES)
    made = [
        make_run(tmp_path / n, dataclasses.replace(each, held_out=noise_apart(each.held_out, name)))
        for n, each in (("c", content()), ("d", better(0.25)))
    ]
    same = compare([ComparedRun(path.name, read_results(path)) for path in made], "now")
    assert not same.notes
    domains = [row.domain for row in rows if row.domain not in AVERAGES]
    assert f"in {len(domains) - 1} of {len(domains) - 1} domains" in str(headline(same.content))
    other = compare([ComparedRun(p.name, read_results(p)) for p in (runs[0], made[1])], "now")
    (note,) = other.notes
    assert f"d and a do not set the same domains apart ({name})" in note
    assert {each.partition(":")[0] for each in other.content.held_out_models} == {"a"}


def test_curves_on_other_text_are_not_drawn_together(runs, tmp_path):
    rows = [dataclasses.replace(row, num_bytes=row.num_bytes * 2) for row in content().held_out]
    other = make_run(tmp_path / "c", content(held_out=rows))
    found = compare([ComparedRun(p.name, read_results(p)) for p in (runs[0], other)], "now")
    drawn = {curve.model.partition(":")[0] for curve in found.content.curves if curve.held_out}
    assert drawn == {"a"}
    text = compare_runs([runs[0], other], tmp_path / "page.html").read_text(encoding="utf-8")
    check(text)


def test_tasks_that_were_asked_in_another_way_are_said_and_not_shown(runs, tmp_path):
    shots = dataclasses.replace(tasks(), num_fewshot=5)
    few = [dataclasses.replace(r, num_items=r.num_items and 3) for r in tasks().results]
    for name, asked in (("c", shots), ("d", dataclasses.replace(tasks(), results=few))):
        other = make_run(tmp_path / name, dataclasses.replace(content(), tasks=asked))
        found = compare([ComparedRun(p.name, read_results(p)) for p in (runs[0], other)], "now")
        (note,) = found.notes
        assert f"The tasks of {name} are not shown" in note
        shown = {each.model.partition(":")[0] for each in found.content.tasks.results}
        assert shown == {"a"}


def test_curves_in_bits_per_byte_compare_across_tokenizers_and_with_nothing_else(tmp_path):
    bits = [dataclasses.replace(curve, unit=BITS) for curve in content().curves]
    made = {
        "a": make_run(tmp_path / "a", content(curves=bits)),
        "b": make_run(tmp_path / "b", content(curves=bits), tokenizer="two"),
        "c": make_run(tmp_path / "c", content()),
    }
    text = compare_runs(list(made.values()), tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'data-model="b: plain"' in text
    assert 'data-model="c: plain"' not in text
    assert "No curves are drawn of c: plain, " in text


def test_a_page_that_cannot_be_written_is_told(runs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match="cannot be written"):
        compare_runs(runs, tmp_path / "file" / "page.html")


def test_no_gap_is_drawn_to_a_run_of_other_text(tmp_path):
    bits = [dataclasses.replace(curve, unit=BITS) for curve in content().curves]
    rows = [dataclasses.replace(row, num_bytes=row.num_bytes * 2) for row in content().held_out]
    one = make_run(tmp_path / "a", content(curves=bits))
    other = make_run(tmp_path / "b", content(curves=bits, held_out=rows))
    text = compare_runs([one, other], tmp_path / "page.html").read_text(encoding="utf-8")
    curves, gaps = (
        part for part in text.split("<figcaption>The same curves")[0].rsplit("<figure", 1)
    )
    assert 'data-model="b: miniplm"' in curves
    assert 'data-model="a: miniplm"' in gaps
    assert 'data-model="b: miniplm"' not in gaps


def test_hostile_names_stay_text(tmp_path):
    runs = [make_run(tmp_path / name, poisoned(content())) for name in "ab"]
    check(compare_runs(runs, tmp_path / "page.html").read_text(encoding="utf-8"))


def test_runs_without_anything_in_common_make_a_page(runs, tmp_path):
    nothing = {"models": [], "held_out": [], "curves": [], "selections": [], "equal_loss": []}
    bare = make_run(tmp_path / "bare", report(**nothing, baseline=None))
    for both in ([bare, runs[0]], [runs[0], bare]):
        text = compare_runs(both, tmp_path / "page.html").read_text(encoding="utf-8")
        check(text)
        assert "was measured on other held-out documents" in text


def test_runs_of_one_name_are_told_apart():
    assert name_runs([Path("/r/one"), Path("/r/two")]) == ["one", "two"]
    assert name_runs([Path("/a/run"), Path("/b/run")]) == ["a/run", "b/run"]


def test_mistakes_are_said(runs, tmp_path):
    with pytest.raises(ConfigError, match="two runs or more"):
        compare_runs(runs[:1], tmp_path / "page.html")
    with pytest.raises(ConfigError, match="given twice"):
        compare_runs([runs[0], runs[0]], tmp_path / "page.html")
    with pytest.raises(StageNotReadyError, match=r"results\.json is not there; run"):
        compare_runs([runs[0], tmp_path], tmp_path / "page.html")
    (runs[1] / "report/results.json").write_text('{"models": []}')
    with pytest.raises(ArtefactError, match="title: Field required"):
        compare_runs(runs, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_the_command_writes_the_page(runs, tmp_path):
    target = tmp_path / "page.html"
    words = ["report", "--compare", *map(str, runs), "-o", str(target)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert str(target) in done.output
    check(target.read_text(encoding="utf-8"))
    refused = CliRunner().invoke(main, ["report", str(runs[0]), "-o", str(target)])
    assert "without --compare" in refused.output


def test_a_selection_that_another_run_lacks_has_dashes(runs, tmp_path):
    rows = content().selections[0].domains[:2]
    third = make_run(tmp_path / "few", content(selections=[selection(domains=rows)]))
    page = check(compare_runs([runs[0], third], tmp_path / "page.html").read_text(encoding="utf-8"))
    kept = cells(page, "miniplmtop_ratio, 50% of the sequences", "Share")
    assert kept[1].count("–") == len(content().selections[0].domains) - 2
