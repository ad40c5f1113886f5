import base64
import dataclasses
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_up_effects import effects
from made_up_report import DOMAINS, TEXTS, curve, model, report, selection
from made_up_rows import sampled_rows
from miniplm.report import formats, svg
from miniplm.report import page as page_module
from miniplm.report.content import ReportContent
from miniplm.report.curves import model_styles
from miniplm.report.model_content import CurvePoint, HeldOutRow, ModelRow, TrainingCurves
from miniplm.report.page import render_page
from miniplm.report.scaling_content import FittedLoss, MeasuredLoss, ScalingContent, ScalingFit
from miniplm.report.selection_content import DomainRow
from miniplm.report.selection_summary import fitted_line
from miniplm.report.tables import held_out_table
from miniplm.report.task_content import TaskContent, TaskResult
from miniplm.selection.config import SelectionConfig

# ---- reading a page back -------------------------------------------------------------------------

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Tags, texts and table rows of a page; fails where tags do not close as they opened."""

    def __init__(self, html):
        super().__init__()
        self.html = html
        self.open, self.tags, self.texts, self.titles = [], [], [], []
        self.tables = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.texts.append(data)
        if self.open and self.open[-1] == "title":
            self.titles.append(data)
        elif "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    def row(self, heading, column=""):
        """The row that starts with `heading`, in the table whose heading has `column`."""
        for table in self.tables:
            if column in [cell.strip() for cell in table[0]]:
                for row in table[1:]:
                    if row[0].strip() == heading:
                        return [cell.strip() for cell in row[1:]]
        raise AssertionError(f"no row {heading!r} under {column!r}")

    def classes(self, tag):
        return [attrs.get("class", "") for name, attrs in self.tags if name == tag]


def drawings(html):
    parsed = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]
    assert len(parsed) == html.count("<svg")
    return parsed


def assert_only_our_script(html):
    """One script, named by its hash in the policy; the others are data."""
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", html, re.DOTALL)
    assert html.count("<script") == len(scripts)
    running = [text for attributes, text in scripts if "application/json" not in attributes]
    digest = hashlib.sha256(running[0].encode()).digest()
    source = f"script-src 'sha256-{base64.b64encode(digest).decode()}'"
    assert len(running) == html.count(source) == 1
    for attributes, text in scripts:
        if "application/json" in attributes:
            json.loads(text)


def check(html):
    """What holds for every page: it parses, fetches nothing, runs its own script, draws well."""
    page = Page(html)
    drawings(html)
    html.encode("utf-8")
    assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html) is None
    for tag, attrs in page.tags:
        assert tag not in {"iframe", "object", "embed", "img", "base"}
        assert tag != "form" or "action" not in attrs
        assert not any(name == "src" or name.startswith("on") for name in attrs)
        assert attrs.get("href", "#").startswith(("#", "data:,"))
    assert_only_our_script(html)
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"}
    assert links <= set(ids)
    return page


@pytest.fixture(scope="module")
def html():
    return render_page(report())


@pytest.fixture(scope="module")
def page(html):
    return check(html)


# ---- the page says what the content says ---------------------------------------------------------


def test_the_verdict_comes_first_and_the_sections_in_their_order(page):
    names = ["verdict", "models", "selection-1", "training", "held-out", "equal-loss", "cost",
             "recipe"]  # fmt: skip
    assert [attrs["id"] for _, attrs in page.tags if attrs.get("id") in names] == names
    text = "".join(page.texts)
    assert text.index(report().verdict[0]) < text.index(report().regime[0]) < text.index("Models\n")


def test_the_same_content_gives_the_same_bytes(html):
    assert render_page(report()) == html


def test_students_are_compared_with_the_baseline(page):
    rows = {model.name: model for model in report().models}
    miniplm, plain = rows["miniplm"], rows["plain"]
    assert page.row("miniplm", "Student") == [
        "12M", "19.4", f"{miniplm.held_out_loss:.3f}",
        f"+{miniplm.held_out_loss - plain.held_out_loss:.3f}", f"{miniplm.bits_per_byte:.3f}",
        f"+{miniplm.bits_per_byte - plain.bits_per_byte:.3f}",
    ]  # fmt: skip
    assert page.row("plain", "Student")[3] == "baseline"


def test_losses_of_another_tokenizer_are_not_compared():
    tokenizers = {row.name: "one" for row in report().models} | {"miniplm": "two"}
    page = check(render_page(report(tokenizers=tokenizers)))
    compared = check(render_page(report()))
    loss, difference, bits, *rest = page.row("miniplm", "Student")[2:]
    assert difference == "–"
    assert [loss, bits, *rest] == [
        cell for place, cell in enumerate(compared.row("miniplm", "Student")[2:]) if place != 1
    ]
    assert page.row("miniplm-per-domain", "Student") == compared.row(
        "miniplm-per-domain", "Student"
    )
    in_loss, in_bits = [t for t in page.tables if "teacher ahead by" in [c.strip() for c in t[0]]]
    assert len(in_loss[1]) == len(in_bits[1]) - 1


def test_the_table_of_models_shows_how_far_the_teacher_is_ahead(page):
    teacher, reference = report().models[:2]
    assert page.row("teacher", "Model")[1:4] == ["6.1M", "250M", "41"]
    assert page.row("reference", "Model")[8] == f"{reference.held_out_loss:.3f}"
    lead = f"{reference.held_out_loss - teacher.held_out_loss:.3f} nats per token below"
    assert lead in page.texts


def test_losses_of_a_teacher_with_tokens_of_its_own_are_not_set_against_the_reference():
    page = check(render_page(report(tokenizers={"teacher": "that of a hub model"})))
    teacher, reference = report().models[:2]
    lead = f"{reference.bits_per_byte - teacher.bits_per_byte:.3f} bits per byte below"
    assert lead in page.texts
    content = report(tokenizers={"teacher": "that of a hub model"})
    has_lead = {
        measure: held_out_table(content, model_styles(content), measure).has_lead
        for measure in ("loss", "bits_per_byte")
    }
    assert has_lead == {"loss": False, "bits_per_byte": True}


def test_every_bar_of_the_histogram_carries_its_count_and_what_was_kept_of_it(page):
    summary = report().selections[0]
    bars = [title for title in page.titles if re.search(r"sequences, [\d,]+ kept$", title)]
    numbers = [[int(word.replace(",", "")) for word in re.findall(r"([\d,]+) (?:seq|kept)", bar)]
               for bar in bars]  # fmt: skip
    assert [number for number, _ in numbers] == list(summary.histogram_counts)
    assert sum(kept for _, kept in numbers) == summary.num_kept
    assert page.classes("g").count("bin") == len(summary.histogram_counts)
    assert bars[0].startswith("below −0.290: ")
    assert bars[-1].startswith("3.890 and above: ")


def test_of_a_schedule_the_end_is_shown():
    html = render_page(report(selections=[selection(narrows=True)]))
    assert "sequences, at the end of training" in html
    assert "at the end of training" not in render_page(report())


def test_the_dials_of_a_selection_stand_in_its_card():
    page = check(render_page(report(selections=[selection(dials=["within domain", "floor 0.1"])])))
    assert "".join(page.texts).count("Dialswithin domain,floor 0.1") == 1
    assert "Dials" not in check(render_page(report())).texts


@pytest.mark.parametrize(("slope", "said"), [(0.8124, "+ 0.812"), (-0.05, "− 0.050")])
def test_the_line_of_a_calibration_stands_in_the_card(slope, said):
    facts = {"calibration": {"slope": slope, "intercept": 0.3}}
    line = fitted_line(SelectionConfig(calibration="residual"), facts)
    html = render_page(report(selections=[selection(line=line)]))
    assert f"teacher = 0.300 {said} \N{MULTIPLICATION SIGN} reference" in "".join(check(html).texts)
    assert "Line of the calibration" not in render_page(report())
    assert fitted_line(SelectionConfig(), {"calibration": None}) is None
    assert fitted_line(SelectionConfig(calibration="zscore"), {"calibration": {"a": 1}}) is None


def test_every_domain_has_its_numbers_and_its_bars(page):
    assert page.row("books", "Kept share") == [
        "8,100", "2", "", "<0.1 %", "", "0.980", "", "19.8 %", "<0.1 %"
    ]  # fmt: skip
    assert page.row("code-javascript", "Kept share")[3] == "87.2 %"
    assert "books: 2 of 8,100 sequences kept" in page.titles
    assert page.classes("svg").count("mini") == 3 * len(DOMAINS)


def test_domains_stand_in_the_order_of_what_was_kept_of_them(page):
    table = next(table for table in page.tables if "Kept share" in table[0])
    shares = {name: row[1] / row[0] for name, row in DOMAINS.items()}
    assert [row[0] for row in table[1:]] == sorted(shares, key=shares.get, reverse=True)


def test_warnings_stand_in_the_selection_and_are_pointed_to_at_the_top(page):
    assert report().selections[0].warnings[0] in page.texts
    assert "".join(page.texts).index("carries a warning") < page.html.index('id="models"')


def test_warnings_of_many_selections_are_counted_and_named_once():
    names = [f"s{place}" for place in range(18)]
    made = [selection(name=name, warnings=["one", "two"]) for name in names]
    page = check(render_page(report(selections=[*made, selection(name="calm", warnings=[])])))
    head = page.html.partition('<p class="pointer">')[2].partition("</p>")[0]
    text = re.sub(r"\s+", " ", re.sub("<[^>]*>", "", head))
    assert f"36 warnings in 18 selections: {', '.join(names)}." in text
    assert 'href="#selection-18">s17</a>' in head


def test_drawings_wider_than_a_phone_say_that_they_scroll():
    page = check(render_page(report(selections=[selection(effects=effects())])))
    wide = sum("wide" in name.split() for name in page.classes("svg"))
    assert wide == page.classes("p").count("hint") == 12


def test_examples_are_shown_whole_and_folded_when_long(page):
    texts = [text for text in page.texts if "def median" in text or "He lifted" in text]
    assert TEXTS["threshold"] in texts
    assert TEXTS["bottom"] in texts
    assert any(text.endswith(" …") and len(text) < 500 for text in texts)
    assert [tag for tag, _ in page.tags].count("article") == 4


def test_every_measurement_is_a_point_with_a_title(page):
    last = report().curves[1].held_out[-1]
    title = f"miniplm, step 1,000: {last.loss:.3f} nats per token after 12M tokens, 44.6 TFLOPs"
    assert page.titles.count(title) == 1  # others are told by the script


def test_held_out_differences_carry_their_sign(page):
    cells = page.row("books", "teacher ahead by")
    assert cells[4:7] == ["5.322", "5.840", "+0.518"]
    assert page.row("noise-autogen", "teacher ahead by")[6] == "−0.262"
    assert page.row("law", "teacher ahead by")[6] == "0.000"
    assert page.tables[[t[0][0] for t in page.tables].index("Domain", 4)][-1][0] == "all text"


def test_equal_loss_gives_a_ratio_only_where_both_reached_it(page):
    assert page.row("miniplm", "At loss") == [
        "plain", "4.403 nats per token", "44.6 TFLOPs", "41 TFLOPs", "0.92 \N{MULTIPLICATION SIGN}"
    ]  # fmt: skip
    assert page.row("miniplm-calibrated-wide-4-layers-seed-1", "At loss")[-1] == "–"


def test_the_cost_is_told_apart_and_adds_up(page):
    assert page.row("teacher", "Share") == ["915 TFLOPs", "58.4 %", "training the teacher"]
    assert page.row("together", "Stage")[0] == "1 h 37 min"
    assert page.row("documents, empty", "Left out") == ["400"]
    assert "once, for any number of students: 83.2 %" in page.texts


def test_the_recipe_and_the_versions_close_the_page(page):
    assert report().recipe_yaml in page.texts
    assert "2.13.0" in page.texts


# ---- whatever a text holds -----------------------------------------------------------------------

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"
    "\x00\x1b\u202e\ud800"
)


def poisoned(value, name=""):
    """The same content with something hostile behind every free text in it."""
    if isinstance(value, str):
        return value if name in {"role", "band", "unit"} else value + HOSTILE
    if dataclasses.is_dataclass(value):
        fields = {
            f.name: poisoned(getattr(value, f.name), f.name) for f in dataclasses.fields(value)
        }
        return type(value)(**fields)
    if isinstance(value, dict):
        return {poisoned(key): poisoned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [poisoned(item) for item in value]
    return value


def test_no_text_gets_out_of_its_place():
    html = render_page(poisoned(report()))
    page = check(html)
    assert "<img" not in html
    shown = formats.readable(HOSTILE)
    assert "\x00" not in shown
    text = "".join(page.texts)
    for said in (report().title, report().verdict[0], report().dropped and "documents, empty",
                 report().notes[0], TEXTS["top"], "books-000.jsonl.zst#4711"):  # fmt: skip
        assert said + shown in text


def test_text_that_cannot_be_drawn_is_named():
    assert formats.readable("a\r\nb\tc\rd") == "a\nb\tc␍d"
    assert formats.readable("\x7f\x85\ufeff\u2066") == "␡⟨U+0085⟩⟨U+FEFF⟩⟨U+2066⟩"
    assert formats.readable("naïve 數 👩‍🔬 שלום") == "naïve 數 👩‍🔬 שלום"


@given(st.text(st.characters(codec=None), max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_makes_a_well_formed_drawing(text):
    drawn = svg.document(1, 1, [svg.text(0, 0, text), svg.title(text)], text, text)
    root = ET.fromstring(str(drawn))
    assert (root[0].text or "") == formats.readable(text)
    str(drawn).encode("utf-8")


def test_a_page_of_many_long_texts_is_cut_to_its_limit(monkeypatch):
    monkeypatch.setattr(page_module, "MOST_BYTES", 700_000)
    rows = [dataclasses.replace(row, text="tall " * 5000) for row in sampled_rows(480).rows]
    sampled = dataclasses.replace(sampled_rows(), rows=rows)
    html = render_page(report(rows=sampled))
    assert len(html.encode()) < 700_000
    check(html)
    assert 'data-row="479"' in html
    monkeypatch.setattr(page_module, "MOST_BYTES", 10_000_000)
    assert len(render_page(report(rows=sampled)).encode()) > 3_000_000


def test_a_study_of_many_students_stays_far_under_the_limit():
    names = [f"student-{place}" for place in range(40)]
    points = [CurvePoint(i, i * 10_000, i * 1e10, 9.0 - i / 100) for i in range(1, 301)]
    curves = [TrainingCurves(name, "student", "", points, points) for name in names]
    models = [model(name, "student", "", 1_000, 3_000_000, 6.0) for name in names]
    html = render_page(report(curves=curves, models=models, baseline=names[0]))
    assert len(html.encode()) < 6_000_000
    marks = re.findall(r'data-model="student-39" data-x="3000000.0" data-y="([^"]*)"', html)
    assert "6.0" in marks  # the last measurement is drawn whatever is left out


# ---- little of it, or much -----------------------------------------------------------------------


def without_curves(content):
    return [dataclasses.replace(curve, held_out=[]) for curve in content.curves]


def many_domains():
    rows = [DomainRow(f"domain-{i}", 100, i, i / 100, i / 10, 1 / 40, i / 780) for i in range(40)]
    return selection(domains=rows, warnings=["one", "two"])


def students_only():
    return [row for row in report().models if row.role == "student"][:1]


def diverged():
    nan = float("nan")
    points = [CurvePoint(i, i * 10, i * 1e6, nan if i > 3 else 5.0) for i in range(1, 9)]
    return [TrainingCurves("plain", "student", "all", points, points)]


def steep_start():
    points = [MeasuredLoss(10.0**n, 5 + 40 / n**3, n > 2) for n in range(1, 12)]
    grid = [FittedLoss(10.0**n, 5.0, 1.0, 90.0) for n in range(1, 12)]
    return ScalingContent([ScalingFit("plain", points, grid, 1e11)])


EDGES = {
    "nothing at all": lambda: ReportContent(
        "", "", [], [], [], [], [], [], None, [], [], [], {}, {}, "", {}
    ),
    "no selections": lambda: report(selections=[]),
    "a single student": lambda: report(
        models=students_only(), curves=report().curves[:1], held_out_models=["plain"], equal_loss=[]
    ),
    "no baseline": lambda: report(baseline=None),
    "a baseline without a row": lambda: report(baseline="lost"),
    "empty held-out curves": lambda: report(curves=without_curves(report())),
    "curves of one point": lambda: report(
        curves=[dataclasses.replace(c, train=c.train[:1], held_out=c.held_out[:1])
                for c in report().curves]
    ),
    "a curve that diverged": lambda: report(curves=diverged()),
    "curves of unknown models": lambda: report(models=[]),
    "nothing known of a model": lambda: report(
        models=[ModelRow("plain", "student", "", None, None, None, None, None)]
    ),
    "a released teacher": lambda: report(curves=report().curves[:-1]),
    "one domain": lambda: report(
        selections=[selection(domains=selection().domains[:1])], held_out=report().held_out[:1]
    ),
    "forty domains": lambda: report(selections=[many_domains()]),
    "one bar": lambda: report(
        selections=[selection(histogram_edges=[1.0, 1.0], histogram_counts=[41_000])]
    ),
    "no bars": lambda: report(
        selections=[selection(histogram_edges=[], histogram_counts=[], domains=[], examples=[])]
    ),
    "no threshold": lambda: report(
        selections=[selection(threshold=None, choice="Each domain is ranked by itself.")]
    ),
    "a range": lambda: report(selections=[selection(threshold=0.5, highest=2.3)]),
    "a range open below": lambda: report(selections=[selection(threshold=None, highest=2.3)]),
    "a threshold beyond the bars": lambda: report(selections=[selection(threshold=99.0)]),
    "three selections": lambda: report(
        selections=[selection(name=name) for name in ("miniplm", "random", "x" * 200)]
    ),
    "no cost": lambda: report(flops_by_share={}, stages=[], dropped={}, notes=[]),
    "cost of an unknown kind": lambda: report(flops_by_share={"teacher": 1e12, "proxy": 1e12}),
    "held-out of some models only": lambda: report(
        held_out=[HeldOutRow("books", 0, {"miniplm": 4.0}, {})]
    ),
    "fits of nothing": lambda: report(
        scaling=ScalingContent([ScalingFit("plain", [], [], 0.0, refusal="no points")])
    ),
    "a fit with a steep start and a wide band": lambda: report(scaling=steep_start()),
    "a task of one item": lambda: report(
        tasks=TaskContent([TaskResult("piqa", "plain", "acc", 1.0, None, None, 1)])
    ),
    "a name of 300 characters": lambda: report(
        held_out_models=["n" * 300], baseline="n" * 300,
        models=[model("n" * 300, "student", "", 1, 1, 4.0)],
        curves=[curve("n" * 300, "student", "", 4.0, 10, 100)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("edge", EDGES)
def test_edges_render(edge):
    check(render_page(EDGES[edge]()))


def test_a_steep_start_of_a_fit_leaves_room_for_the_rest():
    html = render_page(report(scaling=steep_start()))
    figure = html.partition('<section id="scaling">')[2].partition("</section>")[0]
    frame = json.loads(re.search(r'data-frame="([^"]*)"', figure)[1].replace("&quot;", '"'))
    drawn = [float(y) for y in re.findall(r'data-method="plain"[^>]*data-y="([^"]*)"', figure)]
    assert max(drawn) <= frame["y"][1] < 9
    assert len(drawn) == 9  # of eleven; the first two lie far above


def test_what_is_missing_is_said():
    text = "".join(check(render_page(EDGES["nothing at all"]())).texts)
    for sentence in (
        "No student was trained",
        "Nothing was selected",
        "No training curves",
        "Nothing was measured",
        "nothing to compare",
        "Nothing was left out",
    ):
        assert sentence in text  # fmt: skip


def test_unknown_values_are_dashes():
    page = check(render_page(EDGES["nothing known of a model"]()))
    assert page.row("plain", "Model") == ["", *["–"] * 9]


def test_a_choice_that_no_threshold_makes_is_not_drawn_as_a_cut():
    page = check(render_page(EDGES["no threshold"]()))
    assert page.classes("rect").count("part-kept") == 40 + 1  # and the legend
    assert "Middle scores " in page.texts
    assert "Each domain is ranked by itself." in "".join(page.texts)
    assert "is kept." not in "".join(page.texts)


def test_a_range_is_drawn_with_both_ends():
    page = check(render_page(EDGES["a range"]()))
    others = 1 + len(DOMAINS)  # the legend, and a bar for each domain
    assert page.classes("rect").count("kept") - others == 17  # of 40 bars, two of them in part
    assert page.classes("rect").count("dropped") - others == 25
    assert "kept: 0.500 to 2.300" in page.texts
    assert "Everything from 0.500 to 2.300 is kept." in "".join(page.texts)
    open_below = check(render_page(EDGES["a range open below"]()))
    assert "kept: to 2.300" in open_below.texts
    assert "Everything to 2.300 is kept." in "".join(open_below.texts)


def test_every_row_of_a_table_has_as_many_cells_as_its_table_has_columns():
    def columns(row):
        cells = re.findall(r"<(?:th|td)\b([^>]*)>", row)
        spans = [re.search(r'colspan="(\d+)"', cell) for cell in cells]
        return sum(int(span[1]) if span else 1 for span in spans)

    tables = re.findall(r"<table\b.*?</table>", render_page(report()), re.DOTALL)
    assert len(tables) > 3
    for table in tables:
        rows = [columns(row) for row in re.findall(r"<tr\b.*?</tr>", table, re.DOTALL)]
        assert len(set(rows)) == 1, table[:300]


def test_of_many_students_no_few_get_sentences_about_equal_loss():
    row = report().equal_loss[0]
    few, many = (
        [
            dataclasses.replace(row, student=f"s{n}", sentence=f"s{n} needed it.")
            for n in range(count)
        ]
        for count in (3, 4)
    )
    shown = render_page(report(equal_loss=few))
    assert all(each.sentence in shown for each in few)
    shown = render_page(report(equal_loss=many))
    assert not any(each.sentence in shown for each in many)
    assert all(f'<th scope="row">{each.student}</th>' in shown for each in many)
