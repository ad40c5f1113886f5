"""The tables of a study: Parquet of every figure, Markdown to be read."""

from collections.abc import Sequence

import polars as pl

from miniplm.study.results import Comparison, StudentResult
from miniplm.study.summary import MethodSummary, Spread

_FEW_SEEDS = 2


def students_table(
    results: Sequence[StudentResult], comparisons: Sequence[Comparison]
) -> pl.DataFrame:
    """A row for each student; what compares it with the baseline is null of the baseline."""
    compared = {each.student.member: each for each in comparisons}
    rows = []
    for result in results:
        row = {
            "student": result.member.name, "method": result.member.method,
            "size": result.member.size, "seed": result.member.seed,
            "num_params": result.num_params, "num_tokens": result.num_tokens,
            "tokens_per_param": result.tokens_per_param, "training_flops": result.flops,
            "training_seconds": result.seconds, "loss": result.loss,
            "bits_per_byte": result.bits_per_byte, "all_text": result.all_text,
            "set_apart": result.set_apart,
        }  # fmt: skip
        found = compared.get(result.member)
        row |= {
            "difference": found.difference if found else None,
            "domains_better": found.domains_better if found else None,
            "compute_saved": found.compute_saved if found else None,
            "compute_saved_is_cautious": found.is_cautious if found else None,
            "ahead_from": found.ahead_from if found else None,
        }
        rows.append(row)
    return pl.DataFrame(rows, schema=_STUDENTS)


_STUDENTS = {
    "student": pl.String, "method": pl.String, "size": pl.String, "seed": pl.Int64,
    "num_params": pl.Int64, "num_tokens": pl.Int64, "tokens_per_param": pl.Float64,
    "training_flops": pl.Float64, "training_seconds": pl.Float64, "loss": pl.Float64,
    "bits_per_byte": pl.Float64, "all_text": pl.Float64, "set_apart": pl.Float64,
    "difference": pl.Float64, "domains_better": pl.Int64, "compute_saved": pl.Float64,
    "compute_saved_is_cautious": pl.Boolean, "ahead_from": pl.Float64,
}  # fmt: skip


def domains_table(results: Sequence[StudentResult]) -> pl.DataFrame:
    """A row for each student and domain: bits per byte, and whether the domain is set apart."""
    rows = [
        (result.member.name, domain, value, domain in result.apart)
        for result in results
        for domain, value in result.by_domain.items()
    ]
    schema = {
        "student": pl.String, "domain": pl.String, "bits_per_byte": pl.Float64,
        "set_apart": pl.Boolean,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def curves_table(results: Sequence[StudentResult]) -> pl.DataFrame:
    """A row for each evaluation along the way: tokens, FLOPs, mean bits per byte, learning rate."""
    rows = [
        (result.member.name, point.num_tokens, point.flops, point.loss, point.lr)
        for result in results
        for point in result.curve.points
    ]
    schema = {
        "student": pl.String, "num_tokens": pl.Int64, "flops": pl.Float64,
        "bits_per_byte": pl.Float64, "lr": pl.Float64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def summary_lines(summaries: Sequence[MethodSummary]) -> list[list[str]]:
    """The table over seeds as cells of text, the headings first."""
    apart = any(line.set_apart for line in summaries)
    headings = [
        "size", "method", "seeds", "tokens per parameter", "training FLOPs", "bits per byte",
        "against the baseline", "over seeds", "over seeds and documents", "seeds better",
        "domains better",
        "compute saved", "ahead from",
    ]  # fmt: skip
    return [
        headings + ["set apart"] * apart + ["all text"],
        *(_summary_cells(line, apart=apart) for line in summaries),
    ]


def halves_lines(summaries: Sequence[MethodSummary]) -> list[list[str]]:
    """Differences on held-out text that scores low and high, where known; headings first."""
    return [
        [
            "size",
            "method",
            "on text that scores lower",
            "on text that scores higher",
            "higher less lower",
        ],
        *(
            [
                line.size,
                line.label,
                *(_with_spread(each, "+") for each in (low, high, _higher_less_lower(low, high))),
            ]
            for line in summaries
            if (low := line.on_low) is not None and (high := line.on_high) is not None
        ),
    ]


def _higher_less_lower(low: Spread, high: Spread) -> Spread:
    """The second less the first, seed by seed."""
    return Spread(tuple(b - a for a, b in zip(low.values, high.values, strict=True)))


def short_lines(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """Of the table over seeds what fits a terminal."""
    places = [place for place, heading in enumerate(lines[0]) if heading in _SHORT]
    return [[line[place] for place in places] for line in lines]


_SHORT = (
    "size", "method", "seeds", "tokens per parameter", "bits per byte", "against the baseline",
    "over seeds", "over seeds and documents", "seeds better", "compute saved",
)  # fmt: skip


def _summary_cells(line: MethodSummary, *, apart: bool) -> list[str]:
    count = len(line.bits_per_byte.values)
    cells = [
        line.size,
        line.label,
        str(count),
        f"{line.tokens_per_param:.1f}",
        f"{line.flops:.3g}",
        _with_spread(line.bits_per_byte),
    ]
    if line.difference is None:
        cells += ["baseline", *[""] * 6]
    else:
        cells += [
            f"{line.difference.mean:+.4f}",
            _interval(line.difference.interval),
            _interval(line.paired.interval if line.paired else None),
            f"{line.seeds_better} of {len(line.difference.values)}",
            f"{line.domains_better:.2g} of {line.num_domains}",
            _saved(line.compute_saved),
            ", ".join("never" if each is None else f"{each:.0%}" for each in line.ahead_from),
        ]
    if apart:
        cells.append(_with_spread(line.set_apart) if line.set_apart else "")
    return [*cells, _with_spread(line.all_text)]


def _with_spread(spread: Spread, sign: str = "") -> str:
    """Mean and deviation; the sign `+` of differences."""
    deviation = spread.deviation
    return f"{spread.mean:{sign}.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")


def _interval(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return "not known"
    low, high = ends
    return f"{low:+.4f} to {high:+.4f}"


def _saved(spread: Spread | None) -> str:
    if spread is None:
        return "cannot be read"
    if len(spread.values) < _FEW_SEEDS:
        return f"{spread.geometric_mean:.2f}x"
    return f"{spread.geometric_mean:.2f}x ({min(spread.values):.2f} to {max(spread.values):.2f})"


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a Markdown table; the first line holds the headings."""
    rows = [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    ]
    return "\n".join([rows[0], "|" + "---|" * len(lines[0]), *rows[1:]])


def domain_lines(results: Sequence[StudentResult]) -> list[list[str]]:
    """Mean bits per byte over the seeds, by domain, for each size and method; headings first."""
    keys = list(dict.fromkeys((each.member.size, each.member.method) for each in results))
    lines = [["domain", *(f"{method}, {size}" for size, method in keys)]]
    for domain in dict.fromkeys(domain for each in results for domain in each.by_domain):
        apart = any(domain in each.apart for each in results)
        cells = [f"{domain} (set apart)" if apart else domain]
        for key in keys:
            values = [
                each.by_domain[domain]
                for each in results
                if (each.member.size, each.member.method) == key and domain in each.by_domain
            ]
            cells.append(f"{sum(values) / len(values):.4f}" if values else "nothing to predict")
        lines.append(cells)
    return lines
