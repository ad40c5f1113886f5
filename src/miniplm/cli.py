"""The command line: it parses, calls the library, and prints."""

import signal
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from miniplm.at_once import COMMAND
from miniplm.errors import MiniPLMError, StoppedError
from miniplm.runtime.log import configure_logging
from miniplm.runtime.signals import stop_with
from miniplm.runtime.team import rank
from miniplm.terminal import console, print_lines, short_number

if TYPE_CHECKING:
    from miniplm.export.config import Form

_OVERRIDES = "OVERRIDES change fields of the recipe for this call, such as training.lr=3e-4."


_AT_ONCE = click.option(
    "--at-once",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Students trained at the same time, each on its share of the cores, or on a GPU.",
)


class _Group(click.Group):
    """Prints errors that a user can act on without a traceback, and commands in their order."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names of the commands, as they were defined."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except StoppedError as error:
            click.echo(str(error), err=True)
            sys.exit(128 + signal.SIGTERM)
        except MiniPLMError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)
        except OSError as error:
            click.echo(f"error: {error}; what is complete is kept, run again to go on", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("stopped; the same command goes on from here", err=True)
            sys.exit(130)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(metadata.version("miniplm"), package_name="miniplm")
@click.option("-v", "--verbose", is_flag=True, help="Say more while working.")
def main(verbose: bool) -> None:
    """Distil a large language model into small ones through their pre-training data (MiniPLM).

    Score a corpus once with a teacher and a small reference model, keep what the teacher finds
    much likelier, pre-train students on that, and see what it bought.

    `miniplm demo` does all of it on text that every Python carries. For your own:
    `miniplm init > recipe.yaml`, edit, `miniplm plan recipe.yaml`, `miniplm run recipe.yaml`.
    """
    configure_logging(verbose=verbose, quiet=rank() > 0)
    import os

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


@main.command()
@click.option("--run-dir", default=None, help="Folder of the run (default: runs/demo).")
@click.argument("overrides", nargs=-1)
def demo(run_dir: str | None, overrides: tuple[str, ...]) -> None:
    """Walk the whole road on the embedded corpus: ten minutes on two cores.

    OVERRIDES change fields of the demo's recipe, such as seed=7.
    """
    from miniplm.presets import preset
    from miniplm.recipe import override_recipe

    words = [*overrides, f"run_dir={run_dir}"] if run_dir else list(overrides)
    recipe = override_recipe(preset("demo"), words, "demo")
    _run_and_show(recipe)


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@_AT_ONCE
def run(recipe: Path, overrides: tuple[str, ...], at_once: int) -> None:
    """Do everything a recipe asks for; what is complete is skipped.

    OVERRIDES change fields of the recipe for this call, such as training.lr=3e-4.
    """
    from miniplm.recipe import load_recipe

    _run_and_show(load_recipe(recipe, overrides), at_once)


@main.command(name=COMMAND, hidden=True)
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.argument("student")
@click.argument("parent", type=int)
def finish_student(run_dir: Path, student: str, parent: int) -> None:
    """Train and evaluate one student of a run, for the process PARENT that walks it."""
    from miniplm.pipeline import finish_student as finish

    stop_with(parent)
    finish(run_dir, student)


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
def plan(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Say what `run` would do: tokens, FLOPs, bytes and hours per stage.

    OVERRIDES change fields of the recipe for this call, such as training.lr=3e-4.
    """
    from miniplm.planning import make_plan
    from miniplm.planning.gathered import gather_seeds
    from miniplm.planning.printing import print_plan
    from miniplm.preflight import preflight
    from miniplm.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    preflight(loaded)
    made = make_plan(loaded)
    print_plan(made, gather_seeds(made.steps, loaded))


@main.command()
@click.option(
    "--preset",
    "preset_name",
    default="small",
    show_default=True,
    help="small: your own text, all models trained on the spot. demo: what `miniplm demo` runs. "
    "methods: every way to train a student, side by side. cross_family: students of other families "
    "and another tokenizer. paper: Qwen1.5-1.8B as teacher, students of 200M to 1.2B. "
    "paper_cross_family: the paper's Llama 3.1 and Mamba students.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write; default: print."
)
def init(preset_name: str, output: Path | None) -> None:
    """Write a commented recipe to start from."""
    from miniplm.presets import PRESETS
    from miniplm.recipe_text import commented_recipe

    if preset_name not in PRESETS:
        names = ", ".join(PRESETS)
        raise click.BadParameter(
            f"there is no preset {preset_name!r}; choose one of {names}", param_hint="--preset"
        )
    text = commented_recipe(PRESETS[preset_name]())
    if output is None:
        click.echo(text, nl=False)
        return
    if output.exists():
        raise click.BadParameter(f"{output} exists; remove it first", param_hint="--output")
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.BadParameter(
            f"{output} cannot be written ({error.strerror})", param_hint="--output"
        ) from None
    click.echo(f"wrote {output}; next: miniplm plan {output}")


def _stage_command(kind: str, summary: str) -> Callable[..., None]:
    @main.command(name=kind, help=f"{summary}\n\n{_OVERRIDES}")
    @click.argument("recipe", type=click.Path(path_type=Path))
    @click.argument("overrides", nargs=-1)
    @click.option("--only", default=None, help="Only this instance, such as teacher.")
    def command(recipe: Path, overrides: tuple[str, ...], only: str | None) -> None:
        _run_stages(kind, recipe, overrides, only)

    return command


def _run_stages(kind: str, recipe: Path, overrides: Sequence[str], only: str | None) -> None:
    """Do what a recipe's stages of a kind need, and print their folders."""
    from miniplm.pipeline import run as run_road
    from miniplm.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    manifests = run_road(loaded, kinds=[kind], only=only)
    for manifest in manifests if rank() == 0 else []:
        click.echo(f"{Path(loaded.run_dir) / manifest.stage}")


def _run_dir(recipe_or_run_dir: Path) -> Path:
    """The folder of a run that is named by itself or by its recipe."""
    from miniplm.recipe import load_recipe

    if recipe_or_run_dir.is_dir():
        return recipe_or_run_dir
    return Path(load_recipe(recipe_or_run_dir).run_dir).expanduser()


for _kind, _summary in {
    "tokenize": "Cut documents into sequences of tokens, one folder of shards per split.",
    "duplicates": "Look for near-duplicates among the candidates (section near_duplicates).",
    "distinct": "Leave near-duplicates out before scoring (near_duplicates.keep: first).",
    "group": "Group similar candidates, where domains are not labelled (section grouping).",
    "score": "Score every candidate sequence with the teacher and the reference.",
    "diagnose": "Measure how far the teacher is ahead, before a study trains its students.",
    "select": "Choose the sequences of the refined corpora by their scores.",
    "describe": "Measure what selection did to domains, text and diversity.",
    "export": "Write the refined corpora as token shards, and in the forms of export.forms: "
    "tokens, megatron, input_ids, jsonl, parquet.",
    "generate": "Let the teacher write text to train on (SeqKD).",
    "retokenize": "Turn corpora into tokens of another tokenizer, for students of other families. "
    "Where the documents are still there, tokenising them afresh (a run of its own, or "
    "`export RECIPE export.forms=[jsonl]` and that text as corpus) loses nothing, not even the end "
    "of rows that become too long here.",
    "capture": "Store the teacher's probabilities beside a corpus (sparse KD).",
    "train": "Train the students, and a teacher or reference that starts from scratch.",
    "evaluate": "Measure all models on held-out text, and on tasks (evaluation.tasks).",
}.items():
    _stage_command(_kind, _summary)


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@click.option("--so-far", is_flag=True, help="Run nothing; show what is finished.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="New folder for the tables, curves, page and manifests, to be taken elsewhere.",
)
@_AT_ONCE
def study(
    recipe: Path, overrides: tuple[str, ...], so_far: bool, results: Path | None, at_once: int
) -> None:
    """Run methods x sizes x seeds over one scored corpus, and compare them.

    RECIPE has a section `study`. What is complete is skipped; `miniplm plan` says what it costs.
    OVERRIDES change fields of the recipe for this call, such as study.seeds=[1,2].
    """
    from miniplm.recipe import load_recipe
    from miniplm.study.tables import short_lines
    from miniplm.study_run import check_results_folder, copy_results, run_study

    if results is not None:
        check_results_folder(results)
    outcome = run_study(load_recipe(recipe, overrides), so_far=so_far, at_once=at_once)
    if outcome is None:  # of several processes, not the first
        return
    if len(outcome.lines) > 1:
        print_lines("Students, over the seeds", short_lines(outcome.lines), num_names=2)
    for sentence in outcome.sentences:
        click.echo(f"\n{sentence}")
    if not so_far:
        click.echo(f"\nreport: {outcome.run_dir / 'report' / 'index.html'}")
    if results is not None:
        copy_results(outcome.run_dir, results)
        click.echo(f"results: {results}")


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1)
@click.option("--compare", is_flag=True, help="All arguments are runs: folders, or recipes.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write, with --compare."
)
def report(recipe: Path, overrides: tuple[str, ...], compare: bool, output: Path | None) -> None:
    """Write the page about a run; with --compare, one page about several runs.

    `miniplm report --compare RUN RUN ... -o FILE` puts runs side by side whose reports are made.

    OVERRIDES change fields of the recipe for this call, such as training.lr=3e-4.
    """
    if compare:
        from miniplm.report.compare_runs import compare_runs

        folders = [_run_dir(path) for path in (recipe, *map(Path, overrides))]
        click.echo(f"{compare_runs(folders, output or Path('comparison.html'))}")
        return
    if output is not None:
        raise click.BadParameter(
            "without --compare the page is in the run's folder", param_hint="--output"
        )
    _run_stages("report", recipe, overrides, None)


@main.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.argument("kind", type=click.Choice(["student", "corpus"]))
@click.argument("name")
@click.option("--repo", required=True, help="Where to: user/name.")
@click.option(
    "--form",
    type=click.Choice(["tokens", "megatron", "input_ids", "jsonl", "parquet"]),
    help="Form of a corpus, where there are several.",
)
@click.option("--private/--public", default=True, show_default=True, help="Who may see it.")
@click.option("--dry-run", is_flag=True, help="Only say what would go out.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def push(
    run_dir: Path,
    kind: str,
    name: str,
    repo: str,
    form: "Form | None",
    private: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Send a student or a refined corpus to the Hugging Face hub.

    Says which files would go where and who could see them, and asks. Nothing else goes out.
    """
    from miniplm.publishing.hub import check_repo_id
    from miniplm.publishing.hub import push as push_to_hub
    from miniplm.publishing.parcel import corpus_parcel, student_parcel

    if kind == "student" and form is not None:
        raise click.BadParameter("a student has no form; leave it out", param_hint="--form")
    check_repo_id(repo)
    is_student = kind == "student"
    parcel = student_parcel(run_dir, name) if is_student else corpus_parcel(run_dir, name, form)
    sizes = parcel.sizes
    for file, size in sizes.items():
        click.echo(f"{short_number(size, 'B') or '0 B':>10}  {file}")
    click.echo(
        f"{parcel.what}: {len(sizes)} files, {short_number(sum(sizes.values()), 'B')}, to the "
        f"{'private' if private else 'PUBLIC'} {parcel.repo_type} repository {repo}"
    )
    if parcel.warning:
        click.echo(f"warning: {parcel.warning}")
    if dry_run:
        click.echo("dry run: nothing is sent")
        return
    if not yes:
        click.confirm("Send these files?", abort=True)
    click.echo(push_to_hub(parcel, repo, private=private))


@main.command(name="inspect")
@click.argument("recipe_or_run_dir", type=click.Path(path_type=Path))
@click.option("--selection", help="Selection to look at (default: the first complete one).")
@click.option("--domain", help="Only sequences of this domain.")
@click.option("--near", type=float, help="Show the sequences whose score is nearest to this.")
@click.option(
    "--examples",
    type=click.IntRange(min=1),
    help="How many to show (default: 3); without --near, those around the threshold.",
)
@click.option("--sql", help="Answer a SELECT over the tables scores and kept instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect_scores(recipe_or_run_dir: Path, **question: Any) -> None:  # noqa: ANN401
    """Look at the scores of a run: quantiles, domains, sequences near a score, SQL.

    Columns of `scores`: sequence_id, shard, domain, num_tokens, num_bytes, teacher and reference
    (losses), difference_score, kept; of `kept`: sequence_id, difference_score.
    """
    from miniplm.report.inspect_run import Question, inspect_run

    inspect_run(_run_dir(recipe_or_run_dir), Question(**question), console())


@main.command()
@click.argument("run_dirs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME=GLOB",
    help="Students of a method, by their names, or RUN/STUDENT where the pattern has a slash; may "
    "be given again (default: each student's name is a method).",
)
@click.option(
    "--loss",
    default="held_out_loss",
    show_default=True,
    help="held_out_loss (nats per token), bits_per_byte (mean of domains), or of some domains: "
    "bits_per_byte:law,news or bits_per_byte:^noise-*.",
)
@click.option("--baseline", help="Method that others are compared with (default: the first).")
@click.option(
    "--budget-tokens",
    "budgets",
    multiple=True,
    type=float,
    help="Extrapolate to the compute of so many tokens, such as 1e12; may be given again.",
)
@click.option(
    "--points",
    type=click.Choice(["curves", "ends"]),
    default="curves",
    show_default=True,
    help="Fit to all evaluations along the curves, or to the last ones of finished runs only.",
)
@click.option(
    "--skip",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.04,
    show_default=True,
    help="Share of a curve's compute at its beginning that no law is fitted to.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the JSON to this file too.")
def scaling(run_dirs: tuple[Path, ...], points: str, skip: float, **question: Any) -> None:  # noqa: ANN401
    """Compare training curves by compute: what methods save, and laws of scaling.

    RUN_DIRS are folders of runs; students of one name in several of them are one method. Savings
    at equal loss are read off the curves, and, told apart, off laws that are fitted to them. What
    the points do not carry is refused, with the reason. Nothing is written without --out.
    """
    from miniplm.scaling.command import ScalingQuestion, print_scaling
    from miniplm.scaling.series import FitSettings

    settings = FitSettings(skip=skip, ends_only=points == "ends")
    print_scaling(run_dirs, ScalingQuestion(settings=settings, **question), console())


@main.command()
@click.argument("models", nargs=-1, required=True)
@click.option(
    "--tasks",
    help="Tasks of lm-evaluation-harness: all, or names with commas between them.",
)
@click.option(
    "--tasks-dir", help="Folder of the tasks' items as JSON lines; default: those of the hub."
)
@click.option(
    "--num-fewshot", default=0, show_default=True, help="Solved examples before each item."
)
@click.option("--limit", type=int, help="First items of each task; default: all.")
@click.option(
    "--text",
    "texts",
    multiple=True,
    help="Text to measure bits per byte on: a file, folder or glob (JSON lines, text, Parquet); "
    "may be given again.",
)
@click.option(
    "--text-field",
    default="text",
    show_default=True,
    help="Of JSON lines and Parquet: the field with the text.",
)
@click.option(
    "--domain-field", help="Of JSON lines: the field that names the domain (default: by file)."
)
@click.option("--window", type=click.IntRange(min=2), help="Tokens that a model sees of a text.")
@click.option(
    "--stride",
    type=click.IntRange(min=1),
    help="Tokens from one window to the next (default: side by side).",
)
@click.option("--set-apart", multiple=True, help="Domains (globs) that averages leave out.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="What the models compute in.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("measured"),
    show_default=True,
    help="Folder of the results: results.json, and Parquet files of items and documents.",
)
def measure(models: tuple[str, ...], out: Path, **question: Any) -> None:  # noqa: ANN401
    """Measure models side by side on tasks, on text, or on both, without a recipe.

    MODELS are hub names or folders. The same command again goes on where it was stopped.
    """
    from miniplm.evaluation.measure_command import MeasureQuestion, print_measured

    if not question["tasks"] and not question["texts"]:
        raise click.UsageError("say what to measure, such as --tasks all or --text FILE")
    print_measured(models, MeasureQuestion(**question), out)
    click.echo(f"\nresults: {out / 'results.json'}")


def _run_and_show(recipe: Any, at_once: int = 1) -> None:  # noqa: ANN401
    from miniplm.pipeline import run as run_road

    report = run_road(recipe, at_once=at_once)[-1]
    if rank() > 0:
        return
    print_lines("Models on held-out text (mean over domains)", report.facts["models"])
    for sentence in report.facts["verdict"]:
        click.echo(f"\n{sentence}")
    click.echo(f"\nreport: {Path(recipe.run_dir) / 'report' / 'index.html'}")


if __name__ == "__main__":
    main()
