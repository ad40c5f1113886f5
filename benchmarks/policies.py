"""`python -m benchmarks.policies RUN_DIR`: what each selection of a run keeps, and what it buys.

For a finished run such as examples/policies.yaml, whose students are of one shape and budget, each
trained on the selection of its name (`plain`, the first, on all candidates). Nothing is computed
but what the run has measured. Domains whose name begins with `noise-` are the ones that a corpus
labels as of little worth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.calibration_figures import is_noise
from miniplm.evaluation.averages import AVERAGE, OVERALL
from miniplm.manifest import require_manifest

_TRIGRAMS = 2


@dataclass(frozen=True)
class Bought:
    """Bits per byte of a student on held-out text.

    Args:
        clean: Mean over the domains that are not noise.
        noise: Mean over those that are; None where there are none.
        by_domain: Of each domain.
    """

    clean: float
    noise: float | None
    by_domain: Mapping[str, float]

    @classmethod
    def of(cls, run_dir: Path, student: str) -> "Bought":
        """What the evaluation of a student has measured."""
        lines = _facts(run_dir / "evaluate" / student)["held_out"]
        bits = {line["domain"]: line["bits_per_byte"] for line in lines}
        bits = {name: value for name, value in bits.items() if name not in (AVERAGE, OVERALL)}
        noise = dict(zip(bits, is_noise(list(bits)), strict=True))
        noisy = [value for name, value in bits.items() if noise[name]]
        clean = [value for name, value in bits.items() if not noise[name]]
        return cls(_mean(clean), _mean(noisy) if noisy else None, bits)


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--baseline", default="plain", show_default=True, help="Student on all candidates.")
def main(run_dir: Path, baseline: str) -> None:
    """Print Markdown tables of a finished run's selections and students."""
    names = [path.name for path in sorted((run_dir / "select").iterdir(), key=_when)]
    bought = {name: Bought.of(run_dir, name) for name in [baseline, *names]}
    click.echo(
        "| selection | noise, of the tokens | compression | distinct 3-grams | likeness "
        "| clean domains | against plain | better in | noise domains |\n" + "|---" * 9 + "|"
    )
    before = _facts(run_dir / "describe" / names[0])["overall"]["candidates"]
    shares = {name: _domains(run_dir, name) for name in names}
    everything = {domain: {"kept": counts["all"]} for domain, counts in shares[names[0]].items()}
    _say_row(baseline, everything, before, bought[baseline], bought[baseline])
    for name in names:
        after = _facts(run_dir / "describe" / name)["overall"]["kept"]
        _say_row(name, shares[name], after, bought[name], bought[baseline])
    click.echo("\nkept share of the rows of each domain")
    _say_by_domain(names, {name: _kept(run_dir, name) for name in names}, "{:.0%}")
    click.echo("\nbits per byte of each domain, less those of " + baseline)
    plain = bought[baseline].by_domain
    differences = {
        name: {d: value - plain[d] for d, value in bought[name].by_domain.items()} for name in names
    }
    _say_by_domain(names, differences, "{:+.3f}")


def _say_row(
    name: str,
    shares: Mapping[str, Mapping[str, float]],
    text: Mapping[str, Any],
    found: Bought,
    plain: Bought,
) -> None:
    noise = dict(zip(shares, is_noise(list(shares)), strict=True))
    noisy = sum(counts["kept"] for domain, counts in shares.items() if noise[domain])
    clean = [domain for domain in found.by_domain if not noise.get(domain)]
    better = sum(found.by_domain[domain] < plain.by_domain[domain] for domain in clean)
    cells = [
        f"{noisy / sum(counts['kept'] for counts in shares.values()):.1%}",
        _shown(text["block_compression"], ".2f"),
        _shown(text["distinct"][_TRIGRAMS], ".1%"),
        _shown(text["self_similarity"], ".4f"),
        f"{found.clean:.4f}",
        f"{found.clean - plain.clean:+.4f}",
        f"{better} of {len(clean)}",
        _shown(found.noise, ".4f"),
    ]
    click.echo(f"| {name} | {' | '.join(cells)} |")


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _say_by_domain(
    names: Sequence[str], values: Mapping[str, Mapping[str, float]], shown: str
) -> None:
    click.echo("| domain | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|")
    for domain in values[names[0]]:
        cells = [shown.format(values[name][domain]) for name in names]
        click.echo(f"| {domain} | " + " | ".join(cells) + " |")


def _domains(run_dir: Path, name: str) -> dict[str, dict[str, float]]:
    """Tokens of each domain before and after a selection; repeats count."""
    domains = _facts(run_dir / "describe" / name)["domains"]
    return {
        domain: {"all": each["candidates"]["num_tokens"], "kept": each["kept"]["num_tokens"]}
        for domain, each in domains.items()
    }


def _kept(run_dir: Path, name: str) -> dict[str, float]:
    domains = _facts(run_dir / "select" / name)["domains"]
    return {domain: each["num_kept"] / each["num_sequences"] for domain, each in domains.items()}


def _facts(folder: Path) -> dict[str, Any]:
    return require_manifest(folder, "Run the recipe to its end first.").facts


def _when(folder: Path) -> float:
    return (folder / "manifest.json").stat().st_mtime


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
