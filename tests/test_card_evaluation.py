"""The model card carries the report's figures, and nothing else of it changes."""

import pytest
import yaml
from huggingface_hub import ModelCard

from made_up_evidence import tasks
from made_up_report import report
from miniplm.errors import ArtefactError
from miniplm.model import ModelConfig
from miniplm.report.card_evaluation import with_evaluation, write_evaluations
from miniplm.report.results import write_results
from miniplm.training.model_card import CardFacts, model_card

CARD = model_card(
    CardFacts(
        "plain", 620_000, "all candidates", 41_000, 12_000_000, 938, 4.5e13, 256, {"lr": 3e-4}
    )
)
ROWS = report().held_out
TASKS = [result for result in tasks().results if result.model == "plain"]


def test_the_hub_reads_the_figures_of_the_report():
    card = ModelCard(with_evaluation(CARD, "plain", ROWS, TASKS))
    found = {
        (result.dataset_name, result.metric_type): result.metric_value
        for result in card.data.eval_results
    }
    for row in ROWS:
        assert found[f"held-out text, {row.domain}", "bits_per_byte"] == row.bits_per_byte["plain"]
        assert found[f"held-out text, {row.domain}", "loss"] == row.loss["plain"]
    for result in TASKS:
        assert found[result.task, result.metric] == result.value
    assert len(found) == 2 * len(ROWS) + len(TASKS)
    assert card.data.library_name == "transformers"
    assert card.data.tags == ["miniplm"]


def test_the_section_has_a_line_for_each_domain_and_task():
    text = with_evaluation(CARD, "plain", ROWS, TASKS)
    books = next(row for row in ROWS if row.domain == "books")
    line = f"| books | {books.num_bytes:,} | {books.bits_per_byte['plain']:.4f} | 5.3220 |"
    assert line in text.splitlines()
    assert "| hellaswag | acc_norm | 10,042 | 0.2710 | 0.0044 | 0.250 |" in text.splitlines()


def test_writing_it_again_changes_nothing_and_other_figures_replace_it():
    once = with_evaluation(CARD, "plain", ROWS, TASKS)
    assert with_evaluation(once, "plain", ROWS, TASKS) == once
    other = with_evaluation(once, "plain", ROWS[:1], [])
    assert other.count("## Evaluation") == 1
    assert "hellaswag" not in other
    gone = with_evaluation(once, "plain", [], [])
    assert "Evaluation" not in gone
    assert gone.rstrip() == CARD.rstrip()


def test_what_an_author_wrote_stays():
    mine = CARD.replace("tags:", "license: mit\ntags:") + "\n## Thanks\n\nTo all.\n"
    text = with_evaluation(with_evaluation(mine, "plain", ROWS, []), "plain", ROWS, TASKS)
    assert "## Thanks\n\nTo all." in text
    assert ModelCard(text).data.license == "mit"


def test_names_of_domains_break_no_table_and_no_metadata():
    domain = "a|b\n---\n<!-- end of evaluation -->: [x]"
    row = type(ROWS[0])(domain, 5, {"plain": 1.0}, {"plain": 0.5})
    text = with_evaluation(CARD, "plain", [row], [])
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["model-index"][0]["results"][0]["dataset"]["name"].endswith(
        "a|b --- <!-- end of evaluation -->: [x]"
    )
    assert with_evaluation(text, "plain", [row], []) == text
    line = next(line for line in text.splitlines() if line.startswith("| a"))
    assert line.count("|") - line.count("\\|") == 5


def test_a_card_without_metadata_gets_some():
    text = with_evaluation("# Mine\n", "plain", ROWS, [])
    assert text.startswith("---\nmodel-index:")
    assert "# Mine\n" in text


@pytest.fixture
def run_dir(tmp_path):
    for name in ("plain", "reference"):
        folder = tmp_path / "train" / name / "model"
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(CARD, encoding="utf-8")
        (folder / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "report").mkdir()
    write_results(report(tasks=tasks()), "own", tmp_path / "report")
    return tmp_path


def test_cards_of_students_are_written_where_they_are(run_dir):
    write_evaluations(run_dir)
    card = run_dir / "train/plain/model/README.md"
    assert card.read_text(encoding="utf-8") == with_evaluation(CARD, "plain", ROWS, TASKS)
    assert (run_dir / "train/reference/model/README.md").read_text(encoding="utf-8") == CARD
    assert not (run_dir / "train/miniplm").exists()
    before = card.stat().st_mtime_ns
    write_evaluations(run_dir)
    assert card.stat().st_mtime_ns == before


def test_a_card_whose_metadata_is_broken_is_named_and_stays(run_dir):
    card = run_dir / "train/plain/model/README.md"
    broken = CARD.replace("---\n", "---\nlicense: [mit\n", 1)
    card.write_text(broken, encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"plain/model/README\.md: the metadata .* is no YAML"):
        write_evaluations(run_dir)
    assert card.read_text(encoding="utf-8") == broken


def test_without_a_report_cards_stay(run_dir):
    (run_dir / "report/results.json").unlink()
    write_evaluations(run_dir)
    assert (run_dir / "train/plain/model/README.md").read_text(encoding="utf-8") == CARD


def test_a_card_is_no_part_of_a_model_s_fingerprint(run_dir):
    config = ModelConfig(name=str(run_dir / "train/plain/model"))
    before = config.origin_fingerprint
    write_evaluations(run_dir)
    assert config.origin_fingerprint == before
    (run_dir / "train/plain/model/config.json").write_text("{ }", encoding="utf-8")
    assert config.origin_fingerprint != before
