"""The table of what selections keep and buy says what the run's manifests say."""

import pytest
from benchmarks.policies import Bought, main
from click.testing import CliRunner

from conftest import tiny_recipe
from miniplm.pipeline import run
from miniplm.recipe import make_recipe


@pytest.fixture(scope="module")
def finished(corpus_folder, tmp_path_factory):
    """A run whose domain of tables is labelled as noise."""
    folder = tmp_path_factory.mktemp("corpus")
    for path in corpus_folder.iterdir():
        name = path.name.replace("tables", "noise-tables")
        (folder / name).write_bytes(path.read_bytes())
    run_dir = tmp_path_factory.mktemp("study") / "run"
    content = tiny_recipe(folder, run_dir)
    content["students"]["refined"] = content["students"].pop("miniplm")
    return run_dir, {manifest.stage: manifest for manifest in run(make_recipe(content, "tiny"))}


def cells(lines, first):
    (line,) = [line for line in lines if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_tables_say_what_was_measured(finished):
    run_dir, manifests = finished
    result = CliRunner().invoke(main, [str(run_dir)], catch_exceptions=False)
    kept_at, bits_at = (
        result.output.index(heading) for heading in ("kept share of", "bits per byte of")
    )
    tables = [
        part.splitlines()
        for part in (
            result.output[:kept_at],
            result.output[kept_at:bits_at],
            result.output[bits_at:],
        )
    ]
    facts = manifests["describe/refined"].facts
    tokens = {domain: each["kept"]["num_tokens"] for domain, each in facts["domains"].items()}
    row = cells(tables[0], "refined")
    assert row[0] == f"{tokens['noise-tables'] / sum(tokens.values()):.1%}"
    bits = {
        student: {
            line["domain"]: line["bits_per_byte"]
            for line in manifests[f"evaluate/{student}"].facts["held_out"]
        }
        for student in ("plain", "refined")
    }
    difference = bits["refined"]["prose"] - bits["plain"]["prose"]
    assert row[4:] == [
        f"{bits['refined']['prose']:.4f}",
        f"{difference:+.4f}",
        f"{int(difference < 0)} of 1",
        f"{bits['refined']['noise-tables']:.4f}",
    ]
    counts = manifests["select/refined"].facts["domains"]["prose"]
    assert cells(tables[1], "prose") == [f"{counts['num_kept'] / counts['num_sequences']:.0%}"]
    assert cells(tables[2], "prose") == [f"{difference:+.3f}"]


def test_without_noise_there_is_no_mean_of_it(finished, tmp_path):
    import shutil

    run_dir, _ = finished
    manifest = run_dir / "evaluate/plain/manifest.json"
    (tmp_path / "evaluate/plain").mkdir(parents=True)
    shutil.copy(manifest, tmp_path / "evaluate/plain")
    text = (tmp_path / "evaluate/plain/manifest.json").read_text().replace("noise-tables", "tables")
    (tmp_path / "evaluate/plain/manifest.json").write_text(text)
    found = Bought.of(tmp_path, "plain")
    assert found.noise is None
    assert found.clean == pytest.approx(sum(found.by_domain.values()) / 2)
