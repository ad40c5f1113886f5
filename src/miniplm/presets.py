"""Presets: reviewed functions that return a full recipe as plain values, section by section.

They hold only what differs from the defaults, so that `miniplm init` prints what matters.
"""

from collections.abc import Callable, Mapping
from typing import Any

from miniplm.recipe import Recipe, make_recipe

Content = dict[str, Any]


def demo() -> Content:
    """The whole road on the text that every Python carries: ten minutes on two cores."""
    small = {"family": "qwen2", "hidden_size": 48, "intermediate_size": 128, "num_layers": 2,
             "num_heads": 3, "tie_embeddings": True}  # fmt: skip
    smaller = {**small, "hidden_size": 32, "intermediate_size": 88, "num_heads": 2}
    large = {**small, "hidden_size": 96, "intermediate_size": 256, "num_layers": 3}
    training = {
        "lr": 4e-3, "warmup_steps": 30, "global_batch_size": 32, "checkpoint_every_steps": 100,
        "eval_every_steps": 20, "budget": {"tokens": 2_750_000},
    }  # fmt: skip
    student = {"shape": small}
    return {
        "name": "MiniPLM demo",
        "run_dir": "runs/demo",
        "corpus": {"source": "embedded"},
        "splits": {"reference": 0.13, "teacher": 0.3, "held_out": 0.04},
        "tokenizer": {"vocab_size": 2048, "train_bytes": 10_000_000},
        "packing": {"max_length": 256, "sequences_per_shard": 4096},
        "teacher": {
            "shape": large,
            "training": {**training, "lr": 3e-3, "budget": {"tokens": 3_400_000}},
        },
        "reference": {
            "shape": smaller,
            "training": {**training, "budget": {"tokens": 1_850_000}},
        },
        "selections": {"refined": {"ratio": 0.5}},
        "training": training,
        "students": {
            "plain": {**student, "corpus": "candidates"},
            "miniplm": {**student, "corpus": "refined"},
        },
    }


def _qwen(hidden: int, intermediate: int, layers: int, heads: int, *, tie: bool = True) -> Content:
    """A shape of the paper (arXiv 2410.17215, appendix B).

    The paper does not say which tie their embeddings. The sizes in its names come out with tied
    ones up to 500M and with separate ones for 1.2B.
    """
    return {"family": "qwen2", "hidden_size": hidden, "intermediate_size": intermediate,
            "num_layers": layers, "num_heads": heads, "tie_embeddings": tie}  # fmt: skip


def paper() -> Content:
    """The paper's own setting: Qwen1.5-1.8B teacher, 104M reference, 200M to 1.2B students."""
    sizes = {
        "200m": (_qwen(768, 2112, 12, 12), 6e-4),
        "500m": (_qwen(1024, 2816, 24, 16), 3e-4),
        "1.2b": (_qwen(1536, 4224, 24, 16, tie=False), 2.5e-4),
    }
    students = {
        f"{method}-{size}": {"shape": shape, "corpus": corpus, "training": {"lr": lr}}
        for size, (shape, lr) in sizes.items()
        for method, corpus in (("plain", "candidates"), ("miniplm", "refined"))
    }
    steps = {"budget": {"steps": 100_000}}
    optimiser = {
        "lr": 6e-4, "min_lr_ratio": 0.1, "warmup_steps": 2000, "beta1": 0.9, "beta2": 0.98,
        "eps": 1e-6, "weight_decay": 0.01, "max_grad_norm": 1.0, "global_batch_size": 512,
    }  # fmt: skip
    reference_tokens = {"budget": {"tokens": 5_000_000_000}}
    return {
        "name": "MiniPLM, the paper's setting",
        "run_dir": "runs/paper",
        "corpus": {"source": "files", "paths": ["pile/*.jsonl.zst"]},
        "splits": {"reference": 0.0476, "teacher": 0.0, "held_out": 0.0005},
        "tokenizer": {"name": "Qwen/Qwen1.5-1.8B"},
        "packing": {"max_length": 1024},
        "teacher": {"name": "Qwen/Qwen1.5-1.8B"},
        "reference": {
            "shape": _qwen(512, 1408, 8, 8),
            "training": {**optimiser, **reference_tokens},
        },
        "selections": {"refined": {"ratio": 0.5}},
        "training": {**optimiser, **steps},
        "students": students,
        "evaluation": {"tasks": "all"},
    }


def small() -> Content:
    """Your own text on a laptop: everything trained on the spot, from about 50 MB in 20 minutes.

    Nearer the paper's regime than the demo: 40 tokens per parameter for the students, 20 for the
    reference, candidates of twice a student's budget.
    """
    content = demo()
    content |= {
        "name": "MiniPLM on my text",
        "run_dir": "runs/small",
        "corpus": {"source": "files", "paths": ["corpus/*.jsonl.zst"], "share": 1.0},
        "splits": {"reference": 0.1, "teacher": 0.27, "held_out": 0.02},
    }
    content["teacher"]["training"]["budget"] = {"tokens": 6_000_000}
    content["training"] = {**content["training"], "budget": {"tokens": 6_200_000}}
    return content


def methods() -> Content:
    """Every way to train a student, at equal training FLOPs, on the demo's text: half an hour."""
    content = demo()
    shape = content["students"]["plain"]["shape"]
    named: dict[str, tuple[object, Content]] = {
        "plain": ("candidates", {}),
        "miniplm": ("refined", {}),
        "vanilla-kd": ("candidates", {"method": "vanilla_kd"}),
        "sparse-kd": ("candidates", {"method": "sparse_kd", "capture": "all"}),
        "seqkd": ("written", {"method": "seqkd"}),
        "seqkd-mixed": ({"candidates": 0.7, "written": 0.3}, {"method": "seqkd"}),
        "minillm": (
            "candidates", {"method": "minillm", "on_policy": {"prompt_tokens": 128}}
        ),
        "miniplm-vanilla-kd": ("refined", {"method": "vanilla_kd"}),
        "miniplm-sparse-kd": ("refined", {"method": "sparse_kd", "capture": "kept"}),
        "static": ("candidates", {"reweighting": {"kind": "static"}}),
        "repeats": ("candidates", {"reweighting": {"kind": "repeats"}}),
        "dynamic": ("candidates", {"reweighting": {"kind": "dynamic"}}),
        "dynamic-tokens": ("candidates", {"reweighting": {"kind": "dynamic_tokens"}}),
    }  # fmt: skip
    return content | {
        "name": "Every way to train a student",
        "run_dir": "runs/methods",
        "scoring": {"per_token": True},
        "captures": {
            "all": {"corpus": "candidates", "entries": 32},
            "kept": {"corpus": "refined", "entries": 32},
        },
        "generations": {
            "written": {"prompts": "candidates", "prompt_tokens": 32, "tokens": 1_000_000}
        },
        "training": {**content["training"], "budget": {"flops": 3.6e12}},
        "students": {
            name: {"shape": shape, "corpus": corpus, **({"training": training} if training else {})}
            for name, (corpus, training) in named.items()
        },
    }


def cross_family() -> Content:
    """Students of other families and another tokenizer than the teacher: twenty minutes.

    Mamba has no fused kernels on a CPU and takes ten times as long for a token as Llama, so its
    students get half as many.
    """
    content = demo()
    llama = {"family": "llama", "hidden_size": 48, "intermediate_size": 128, "num_layers": 2,
             "num_heads": 3, "tie_embeddings": True}  # fmt: skip
    mamba = {"family": "mamba", "hidden_size": 48, "num_layers": 2, "tie_embeddings": True,
             "extra": {"state_size": 8}}  # fmt: skip
    of_mamba = {"weight_decay": 0.1, "beta2": 0.95, "budget": {"tokens": 1_400_000},
                "precision": "float32", "micro_batch_size": 8}  # fmt: skip
    return content | {
        "name": "One teacher, students of other families",
        "run_dir": "runs/cross_family",
        "retokenizations": {
            "plain-4k": {"corpus": "candidates", "tokenizer": {"vocab_size": 4096}},
            "refined-4k": {"corpus": "refined", "tokenizer_of": "plain-4k"},
        },
        "students": {
            "llama-plain": {"shape": llama, "corpus": "plain-4k"},
            "llama-miniplm": {"shape": llama, "corpus": "refined-4k"},
            "mamba-plain": {"shape": mamba, "corpus": "plain-4k", "training": of_mamba},
            "mamba-miniplm": {"shape": mamba, "corpus": "refined-4k", "training": of_mamba},
        },
    }


def paper_cross_family() -> Content:
    """The paper's cross-family pair: Llama 3.1 of 212M and Mamba of 130M, scored by Qwen.

    Shapes are such that the sizes in these names come out, with the families' own vocabularies;
    positions are rotated as in Llama 3; the optimiser of Mamba is the paper's. Rows that become
    longer than 1,024 tokens are cut, as the authors' conversion cuts them. Llama's tokenizer has
    to be asked for on the hub.
    """
    content = paper()
    llama = {"family": "llama", "hidden_size": 768, "intermediate_size": 3072, "num_layers": 12,
             "num_heads": 12, "tie_embeddings": True,
             "extra": {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
             }  # fmt: skip
    mamba = {"family": "mamba", "hidden_size": 768, "num_layers": 24, "tie_embeddings": True}
    of_mamba = {"lr": 2e-3, "weight_decay": 0.1, "beta2": 0.95, "warmup_steps": 10_000}
    return content | {
        "name": "MiniPLM, the paper's cross-family students",
        "run_dir": "runs/paper-cross-family",
        "retokenizations": {
            "plain-llama": {
                "corpus": "candidates", "tokenizer": {"name": "meta-llama/Llama-3.1-8B"}
            },
            "refined-llama": {"corpus": "refined", "tokenizer_of": "plain-llama"},
            "plain-mamba": {
                "corpus": "candidates", "tokenizer": {"name": "EleutherAI/gpt-neox-20b"}
            },
            "refined-mamba": {"corpus": "refined", "tokenizer_of": "plain-mamba"},
        },
        "students": {
            "plain-llama-212m": {"shape": llama, "corpus": "plain-llama"},
            "miniplm-llama-212m": {"shape": llama, "corpus": "refined-llama"},
            "plain-mamba-130m": {"shape": mamba, "corpus": "plain-mamba", "training": of_mamba},
            "miniplm-mamba-130m": {"shape": mamba, "corpus": "refined-mamba", "training": of_mamba},
        },
    }  # fmt: skip


PRESETS: Mapping[str, Callable[[], Content]] = {
    "demo": demo,
    "methods": methods,
    "cross_family": cross_family,
    "paper": paper,
    "paper_cross_family": paper_cross_family,
    "small": small,
}


def preset(name: str) -> Recipe:
    """A preset by name, checked.

    Raises:
        ConfigError: It has faults (the tests make sure that none has).
        KeyError: There is no such preset.
    """
    return make_recipe(PRESETS[name](), f"preset {name}")
