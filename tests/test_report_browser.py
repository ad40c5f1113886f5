"""The page in a real browser: no errors, no requests, filters that filter, true figures."""

import dataclasses

import pytest

from browser import visit
from made_up_effects import effects
from made_up_evidence import scaling, study, tasks, texts
from made_up_report import report, selection
from made_up_rows import THRESHOLD, sampled_rows
from miniplm.evaluation.difference import Difference
from miniplm.report.cost_content import CostContent, StudentCost
from miniplm.report.page import render_page
from test_report_page import poisoned

PHONE = 390
COST = CostContent(
    [
        StudentCost(
            "plain", training=4e13, once=1.2e14, teacher_beside=5e13, teacher_training=9e14
        ),
        StudentCost("wide", training=8e13, once=1.2e14, teacher_beside=5e13),
    ]
)


@pytest.fixture(scope="session")
def page_path(tmp_path_factory):
    """The page of a made-up report that has something in every section."""
    path = tmp_path_factory.mktemp("page") / "index.html"
    selections = [selection(effects=effects()), selection(name="random", threshold=None)]
    evidence = {"tasks": tasks(), "scaling": scaling(), "study": study(), "texts": texts()}
    content = report(selections=selections, rows=sampled_rows(), cost=COST, **evidence)
    path.write_text(render_page(content), encoding="utf-8")
    return path


@pytest.fixture
def seen(chromium, page_path):
    with visit(chromium, page_path) as opened:
        yield opened


def test_it_renders_without_errors_or_requests(seen):
    assert seen.page.title() == report().title
    assert seen.texts("h1") == [report().title]


def test_a_phone_does_not_scroll_sideways(chromium, tmp_path):
    """With many domains and long names, too."""
    rows = [
        dataclasses.replace(row, domain=f"{row.domain}-{row.sequence_id % 7}", source="n" * 200)
        for row in sampled_rows().rows
    ]
    sampled = dataclasses.replace(sampled_rows(), rows=rows)
    path = tmp_path / "index.html"
    evidence = {"tasks": tasks(), "scaling": scaling(), "study": study(), "cost": COST,
                "texts": texts()}  # fmt: skip
    content = report(selections=[selection(effects=effects())], rows=sampled, **evidence)
    path.write_text(render_page(content), encoding="utf-8")
    with visit(chromium, path, width=PHONE, height=800) as seen:
        assert seen.script("() => document.documentElement.scrollWidth") <= PHONE


def test_a_link_to_a_folded_selection_unfolds_it(seen):
    folded = seen.page.locator("#selection-2 details").first
    assert not folded.evaluate("each => each.open")
    seen.page.click('nav a[href="#selection-2"]')
    seen.settle()
    assert folded.evaluate("each => each.open")


def test_controls_are_reached_and_used_from_the_keyboard(seen):
    seen.page.locator('input[name="axis"][value="tokens"]').focus()
    seen.page.keyboard.press("ArrowRight")
    assert seen.attributes("#training .variant.shown", "data-axis") == [["flops"]] * 2
    seen.page.locator('button[data-domain="books"]').focus()
    seen.page.keyboard.press("Enter")
    assert seen.attributes('button[data-domain="books"]', "aria-pressed") == [["true"]]
    seen.page.locator('#amortised input[type="range"]').focus()
    seen.page.keyboard.press("ArrowRight")
    assert seen.texts("#amortised output") == ["2"]


def test_whatever_can_be_used_has_a_name(seen):
    nameless = seen.script(
        """() => [...document.querySelectorAll("input, select, button, svg[role], [tabindex]")]
          .filter(each => !each.closest("[aria-hidden]"))
          .filter(each => !(each.ariaLabel || each.textContent.trim() || each.closest("label")))
          .map(each => each.outerHTML.slice(0, 80))"""
    )
    assert nameless == []


def test_texts_that_hold_markup_stay_text(chromium, tmp_path):
    path = tmp_path / "index.html"
    hostile = poisoned(report(rows=sampled_rows(20), cost=COST, tasks=tasks(), study=study(),
                              scaling=scaling(), texts=texts()))  # fmt: skip
    path.write_text(render_page(hostile), encoding="utf-8")
    with visit(chromium, path) as seen:
        assert "<script>alert(1)</script>" in seen.texts("#examples .example")[0]
        assert seen.script("() => document.querySelectorAll('img').length") == 0
        seen.page.fill('#examples input[type="search"]', "</script>")
        assert shown_count(seen) == 10
        seen.page.click("button[data-domain]")
        seen.page.uncheck("input[data-model] >> nth=0")


# ---- curves --------------------------------------------------------------------------------------


def drawn_points(seen, model):
    """What the marks of a model that can be seen say, and where they are drawn."""
    return seen.script(
        """model => {
          const svg = document.querySelector("#training .variant.shown svg");
          const frame = JSON.parse(svg.dataset.frame);
          const value = ([low, high, start, end, log], at) => {
            const share = (at - start) / (end - start);
            return log ? low * (high / low) ** share : low + share * (high - low);
          };
          return [...svg.querySelectorAll(`.point[data-model="${model}"]`)].map(mark => {
            const box = mark.getBBox();
            const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
            const { dataset } = mark;
            return [Number(dataset.x), Number(dataset.y), value(frame.x, x), value(frame.y, y)];
          });
        }""",
        model,
    )


@pytest.mark.parametrize(("axis", "scale"), [("tokens", "linear"), ("flops", "linear"),
                                             ("flops", "log")])  # fmt: skip
def test_marks_stand_where_the_measurements_are(seen, axis, scale):
    seen.page.check(f'input[name="axis"][value="{axis}"]')
    seen.page.check(f'input[name="scale"][value="{scale}"]')
    curve = next(curve for curve in report().curves if curve.model == "plain")
    drawn = drawn_points(seen, "plain")
    measured = [
        (point.num_tokens if axis == "tokens" else point.flops, point.loss)
        for point in curve.held_out
    ]
    assert [tuple(said) for *said, _, _ in drawn] == measured
    for x, y, drawn_x, drawn_y in drawn:
        assert drawn_x == pytest.approx(x, rel=0.02, abs=curve.held_out[-1].num_tokens * 0.002)
        assert drawn_y == pytest.approx(y, abs=0.02)


def test_one_drawing_is_shown_at_a_time(seen):
    shown = "#training .variant.shown"
    before = seen.attributes(shown, "data-axis", "data-scale")
    assert before == [["tokens", "linear"]] * 2  # losses, and the gaps to the baseline
    seen.page.check('input[value="flops"]')
    seen.page.check('input[value="log"]')
    assert seen.attributes(shown, "data-axis", "data-scale") == [["flops", "log"]] * 2
    assert len(seen.texts("#training .variant")) == 2


def test_models_can_be_hidden(seen):
    marks = '#training .variant.shown .point[data-model="miniplm"]'
    assert seen.page.locator(marks).first.is_visible()
    seen.page.uncheck('input[data-model="miniplm"]')
    assert not any(mark.is_visible() for mark in seen.page.locator(marks).all())
    assert seen.page.locator(marks.replace("miniplm", "plain")).first.is_visible()
    seen.page.click('button[data-show="all"]')
    assert seen.page.locator(marks).first.is_visible()


def test_pointing_tells_the_values_of_all_models(seen):
    last = {curve.model: curve.held_out[-1] for curve in report().curves}
    figure = seen.page.locator("#training .variant.shown svg").first
    figure.focus()
    seen.settle()
    seen.page.keyboard.press("ArrowLeft")
    (told,) = seen.texts(".tip")
    assert told.startswith("12M tokens")
    for model in ("plain", "miniplm", "miniplm-per-domain"):
        assert f"{model}\n{last[model].loss:.3f}" in told
    box = figure.bounding_box()
    seen.page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2)
    assert "tokens" in seen.texts(".tip")[0] != told
    seen.page.keyboard.press("Escape")
    assert seen.texts(".tip") == []


# ---- rows ----------------------------------------------------------------------------------------


def test_the_scatter_draws_every_row_at_its_losses(seen):
    rows = sampled_rows().rows
    drawn = seen.script(
        """() => {
          const svg = document.querySelector("svg.scatter");
          const { x, y } = JSON.parse(svg.dataset.frame);
          const value = ([low, high, start, end], at) =>
            low + ((at - start) / (end - start)) * (high - low);
          return [...svg.querySelectorAll(".dot")].map(mark => {
            const box = mark.getBBox();
            return [Number(mark.dataset.row), value(x, box.x + box.width / 2),
                    value(y, box.y + box.height / 2)];
          });
        }"""
    )
    assert sorted(number for number, _, _ in drawn) == list(range(len(rows)))
    for number, reference, teacher in drawn:
        assert reference == pytest.approx(rows[number].reference_loss, abs=0.05)
        assert teacher == pytest.approx(rows[number].teacher_loss, abs=0.05)


def test_the_threshold_is_drawn_where_the_score_is_just_kept(seen):
    assert seen.attributes(".cut", "data-selection", "data-score") == [["miniplm", THRESHOLD]]
    ends = seen.script(
        """() => {
          const svg = document.querySelector("svg.scatter");
          const { x, y } = JSON.parse(svg.dataset.frame);
          const value = ([low, high, start, end], at) =>
            low + ((at - start) / (end - start)) * (high - low);
          return [...svg.querySelector("polyline.threshold").points].map(
            point => value(x, point.x) - value(y, point.y));
        }"""
    )
    assert ends == pytest.approx([THRESHOLD, THRESHOLD], abs=0.01)


def test_domains_and_choices_bring_rows_out(seen):
    rows = sampled_rows().rows
    lit = "svg.scatter .dot:not(.grey)"
    assert seen.page.locator(lit).count() == len(rows)
    seen.page.click('button[data-domain="books"]')
    assert seen.page.locator(lit).count() == sum(row.domain == "books" for row in rows)
    seen.page.select_option("#scatter select", "kept:1")
    wanted = [row.domain == "books" and row.kept[1] for row in rows]
    assert seen.page.locator(lit).count() == sum(wanted) > 0
    assert seen.texts("#scatter output") == [f"{sum(wanted)} rows"]


def test_pointing_at_a_mark_tells_the_row_and_opens_it(seen):
    row = sampled_rows().rows[7]
    seen.page.locator("#scatter h2").scroll_into_view_if_needed()
    seen.settle()
    box = seen.page.locator('svg.scatter .dot[data-row="7"]').bounding_box()
    seen.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    (told,) = seen.texts(".tip")
    assert f"{row.domain}, row {row.sequence_id}" in told
    assert f"teacher {row.teacher_loss:.3f}, reference {row.reference_loss:.3f}" in told
    seen.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    (card,) = seen.texts("#examples .example")
    assert "word7 of" in card


def shown_count(seen):
    return int(seen.texts("#examples .count")[0].split(" of ")[1].split(" ")[0])


def test_examples_are_searched_and_filtered(seen):
    rows = [row for row in sampled_rows().rows if row.text is not None]
    assert shown_count(seen) == len(rows)
    assert len(seen.texts("#examples .example")) == 10
    seen.page.fill('#examples input[type="search"]', "WORD11 of")
    assert shown_count(seen) == sum("word11 of" in row.text or "word11" in row.text for row in rows)
    assert "word11" in seen.texts("#examples .example")[0]
    seen.page.fill('#examples input[type="search"]', "nowhere to be found")
    assert seen.texts("#examples .count") == [f"no row of the {len(rows)} in the sample"]
    seen.page.click('#examples button[type="reset"]')
    seen.page.wait_for_function("document.querySelectorAll('#examples .example').length === 10")
    seen.page.select_option('#examples select[name="domain"]', "docs")
    assert shown_count(seen) == sum(row.domain == "docs" for row in rows)
    seen.page.select_option('#examples select[name="kept"]', "left:0")
    assert shown_count(seen) == sum(row.domain == "docs" and not row.kept[0] for row in rows)


def test_the_band_of_scores_goes_by_rank(seen):
    scores = sorted(row.difference_score for row in sampled_rows().rows if row.text is not None)
    seen.page.locator('#examples input[name="low"]').fill("75")
    limit = scores[round(0.75 * (len(scores) - 1))]
    assert seen.texts("#examples .band")[0].startswith(f"{limit:.2f} to ".replace("-", "−"))
    assert abs(shown_count(seen) - sum(score >= limit for score in scores)) <= 1


def test_examples_have_pages(seen):
    first = seen.texts("#examples .example")
    seen.page.click("#examples .pages button:last-child")
    assert not set(seen.texts("#examples .example")) & set(first)
    assert seen.texts("#examples .count")[0].startswith("11–20 of ")
    seen.page.click("#examples .pages button:first-child")
    assert seen.texts("#examples .example") == first


# ---- cost ----------------------------------------------------------------------------------------


def test_the_slider_tells_the_cost_of_each_of_many_students(seen):
    cost = COST.students[0]
    for number in (1, 7, 50):
        seen.page.locator('#amortised input[type="range"]').fill(str(number))
        shown = dict(seen.attributes(".cost-view.shown [data-method]", "data-method", "data-flops"))
        assert shown == {
            method: pytest.approx(cost.per_student(method, number))
            for method in ("plain", "miniplm", "kd")
        }
    assert len(seen.texts(".cost-view")) == 1
    seen.page.select_option("#amortised select", "1")
    shown = dict(seen.attributes(".cost-view.shown [data-method]", "data-method", "data-flops"))
    assert shown["plain"] == COST.students[1].training


# ---- tasks, scaling, study -----------------------------------------------------------------------


def estimates(seen, figure, kind="estimate"):
    """By row and name: what a dot says, and where it is drawn, with the ends of its whisker."""
    found = seen.script(
        """([figure, kind]) => {
          const svg = document.querySelector(figure);
          const [low, high, start, end] = JSON.parse(svg.dataset.frame).x;
          const value = at => low + ((at - start) / (end - start)) * (high - low);
          return [...svg.querySelectorAll(`.${kind}`)].map(dot => {
            const { name, value: said, low: from, high: to } = dot.dataset;
            const mark = dot.querySelector(".mark").getBBox();
            const whisker = dot.querySelector(".whisker");
            const ends = whisker ? [value(+whisker.getAttribute("x1")),
                                    value(+whisker.getAttribute("x2"))] : null;
            return [dot.parentNode.dataset.row, name, Number(said),
                    value(mark.x + mark.width / 2), ends, [Number(from), Number(to)]];
          });
        }""",
        [figure, kind],
    )
    for _, _, said, drawn, ends, interval in found:
        assert drawn == pytest.approx(said, abs=0.002)
        if ends is not None:
            assert ends == pytest.approx(interval, abs=0.002)
    return {(row, name): said for row, name, said, *_ in found}


def test_task_accuracies_are_drawn_where_the_table_says(seen):
    drawn = estimates(seen, "#tasks svg")
    assert drawn == {(row.task, row.model): row.value for row in tasks().results}
    cells = seen.page.locator("#tasks tbody tr").nth(0).locator("td").all_inner_texts()
    hellaswag = tasks().results[:2]
    for cell, row in zip(cells[3:], hellaswag, strict=True):
        assert cell.startswith(f"{100 * row.value:.1f} % ± {100 * row.standard_error:.1f}")
    assert "+1.3 (+0.4 to +2.2)" in cells[4]
    levels = seen.attributes("#tasks .level", "data-level")
    assert levels == [[row.chance] for row in tasks().results[::2] if row.chance is not None]


def test_further_texts_show_differences_and_what_is_clear(seen):
    tables = seen.page.locator("#texts table")
    lines = [row.split("\t") for row in tables.nth(0).locator("tbody tr").all_inner_texts()]
    assert [line[0] for line in lines] == ["letters", "minutes", "average of domains", "all text"]
    assert [" ".join(cell.split()) for cell in lines[0][2:]] == [
        "2.310 2.280 to 2.340", "2.220 2.190 to 2.250 −0.090 (−0.110 to −0.070)",
    ]  # fmt: skip
    kinds = seen.attributes("#texts tbody td:last-child", "class")
    assert [kind for [kind] in kinds] == ["num better", "num ", "num ", "num ", "num "]
    cell = seen.page.locator("#texts td.better")
    assert cell.evaluate("each => getComputedStyle(each).backgroundColor").endswith("/ 0.25)")
    assert [row.split("\t") for row in tables.nth(1).locator("tbody tr").all_inner_texts()] == [
        ["one", "1", "3.100"]
    ]
    assert "Not compared: wide and plain: unlike" in seen.texts("#texts p.note")


def test_the_study_shows_every_seed_and_the_means(seen):
    rows = [row for row in study().rows if row.size == study().rows[0].size]
    means = estimates(seen, "#study svg")
    assert means == {(row.method, "mean"): row.mean for row in rows}
    seeds = estimates(seen, "#study svg", kind="minor")
    assert seeds == {
        (row.method, f"seed {seed}"): value for row in rows for seed, value in row.values.items()
    }
    table = seen.page.locator("#study tbody tr").nth(1).locator("td").all_inner_texts()
    assert table[1:6] == ["3", f"{rows[1].mean:.4f}", f"{rows[1].standard_deviation:.4f}",
                          "−0.0210", "−0.0270 to −0.0150"]  # fmt: skip


def test_scaling_marks_are_the_measured_losses_and_a_refusal_is_said(seen):
    drawn = seen.attributes("#scaling .measured", "data-method", "data-x", "data-y")
    assert drawn == [[f.method, p.flops, p.loss] for f in scaling().fits for p in f.points]
    assert seen.page.locator("#scaling .line.dashed").count() == 2  # the third is not fitted
    assert "Two points cannot fix three constants." in seen.texts("#scaling table")[0]


def test_the_headline_is_the_table_s(chromium, tmp_path):
    path = tmp_path / "index.html"
    wide = "miniplm-calibrated-wide-4-layers-seed-1"
    found = Difference(-0.0912, -0.11, -0.07, 0.001, "paired bootstrap", 40)
    path.write_text(render_page(report(differences={wide: found})), encoding="utf-8")
    with visit(chromium, path) as seen:
        drawn = estimates(seen, "svg.headline")
        assert seen.page.locator(".on-wide svg.headline .whisker").count() == 1
        assert "95 % interval over documents −0.1100 to −0.0700" in seen.texts("dl.headline")[0]
    rows = {row.domain: row.bits_per_byte for row in report().held_out}
    average = rows["average of domains"]
    assert drawn == {
        (name, "average of domains"): pytest.approx(average[name] - average["plain"])
        for name in average
        if name not in ("plain", "teacher", "reference")
    }


def test_a_phone_has_the_headline_without_scrolling(chromium, tmp_path):
    path = tmp_path / "index.html"
    path.write_text(render_page(report()), encoding="utf-8")
    with visit(chromium, path, width=PHONE, height=800) as seen:
        narrow = seen.page.locator(".on-narrow svg.headline")
        assert narrow.is_visible()
        assert not seen.page.locator(".on-wide svg.headline").is_visible()
        box = narrow.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE
        assert estimates(seen, ".on-narrow svg.headline")
    with visit(chromium, path) as seen:
        assert not seen.page.locator(".on-narrow").is_visible()


# ---- themes, paper, and no script ----------------------------------------------------------------


def ground(seen):
    return seen.script("() => getComputedStyle(document.body).backgroundColor")


def test_dark_and_light_differ_by_the_system_and_by_the_button(chromium, page_path):
    with visit(chromium, page_path, color_scheme="light") as seen:
        light = ground(seen)
        for _ in range(2):
            seen.page.click("#theme")
        assert seen.texts("#theme") == ["Theme: dark"]
        dark = ground(seen)
    with visit(chromium, page_path, color_scheme="dark") as seen:
        assert ground(seen) == dark != light


def test_paper_shows_everything_and_no_controls(seen):
    seen.page.emulate_media(media="print")
    folded = seen.page.locator("details:not([open]) > :not(summary)")
    assert folded.count() > 0
    assert all(each.is_visible() for each in folded.all())
    assert len(seen.page.locator("#training .variant >> visible=true").all()) == 4
    assert len(seen.texts(".cost-view")) == len(COST.students)
    for control in ("nav", "form", "#training input", "#theme", "#examples"):
        assert seen.texts(control) == []


def test_without_scripts_figures_and_tables_are_there(chromium, page_path):
    with visit(chromium, page_path, java_script_enabled=False) as seen:
        assert len(seen.page.locator("#training .variant >> visible=true").all()) == 4
        assert len(seen.texts(".cost-view table")) == len(COST.students)
        assert seen.page.locator("svg.scatter .dot").first.is_visible()
        assert seen.texts("form") == []
