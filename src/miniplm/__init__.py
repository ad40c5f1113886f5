"""miniplm: a larger model's knowledge in a smaller one, through the pre-training data.

Difference sampling (MiniPLM, arXiv 2410.17215): score a corpus once with a teacher and a small
reference model, keep what the teacher finds much likelier, and pre-train students of any family on
that with the plain loss.

    from miniplm import load_recipe, run
    run(load_recipe(Path("recipe.yaml")))

The stages are functions too. They are imported on first use, so that `import miniplm` stays fast.
"""

import importlib
from typing import Any

_PUBLIC = {
    "Recipe": "miniplm.recipe",
    "load_recipe": "miniplm.recipe",
    "make_recipe": "miniplm.recipe",
    "preset": "miniplm.presets",
    "preflight": "miniplm.preflight",
    "run": "miniplm.pipeline",
    "Road": "miniplm.road.road",
    "read_documents": "miniplm.data.documents",
    "CorpusConfig": "miniplm.data.documents",
    "TokenizationConfig": "miniplm.data.tokenization",
    "tokenize_corpus": "miniplm.data.tokenization",
    "Shard": "miniplm.data.shards",
    "open_shards": "miniplm.data.shards",
    "adopt_shards": "miniplm.data.token_corpus",
    "ScoringModel": "miniplm.scoring.scorer",
    "score_shards": "miniplm.scoring.scorer",
    "score_with_models": "miniplm.scoring.scorer",
    "select_sequences": "miniplm.selection.selector",
    "describe_selection": "miniplm.selection.effects",
    "export_corpus": "miniplm.export.exporter",
    "retokenize_corpus": "miniplm.export.retokenize",
    "generate_corpus": "miniplm.generation.generator",
    "capture_shards": "miniplm.scoring.capture",
    "train_model": "miniplm.training.student",
    "evaluate_model": "miniplm.evaluation.held_out",
    "evaluate_tasks": "miniplm.evaluation.tasks",
    "read_task_results": "miniplm.evaluation.task_results",
    "write_report": "miniplm.report.collect",
    "MiniPLMError": "miniplm.errors",
}

__all__ = sorted(_PUBLIC)  # noqa: PLE0605  (a list, computed)


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'miniplm' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
