"""Small items of all nine tasks, in the fields of the real ones, and the harness over them."""

import json
import warnings
from pathlib import Path

import numpy as np

from conftest import WORDS
from made_up_tokenizers import byte_level
from miniplm.data.tokenizer import load_tokenizer
from miniplm.evaluation.config import NINE, EvaluationConfig

LABELS = "ABCDE"


def _words(generator, count):
    return " ".join(generator.choice(WORDS, count))


def _chosen(generator, few=4, words=3):
    """Choices with the number of the right one; two of them may be the same."""
    return [_words(generator, generator.integers(1, words + 1)) for _ in range(few)]


def _hellaswag(generator, place):
    endings = [f"{ending} [step] then  on." for ending in _chosen(generator)]
    return {
        "ind": place, "activity_label": "Cooking [header] soup",
        "ctx_a": _words(generator, 9) + ".", "ctx_b": "the cat", "endings": endings,
        "label": str(generator.integers(4)),
    }  # fmt: skip


def _lambada(generator, _):
    return {"text": f"{_words(generator, 12)}.\n\n“{_words(generator, 8)}” dog"}


def _winogrande(generator, _):
    return {
        "sentence": f"{_words(generator, 5)} so _ {_words(generator, 6)}.",
        "option1": "the cat", "option2": "Zoë", "answer": str(1 + generator.integers(2)),
    }  # fmt: skip


def _arc(generator, place):
    few = (4, 3, 5)[place % 3]
    labels = [*LABELS[:few]] if place % 2 else [str(number + 1) for number in range(few)]
    return {
        "id": f"q{place}", "question": f"{_words(generator, 8)}?",
        "choices": {"text": _chosen(generator, few), "label": labels},
        "answerKey": labels[generator.integers(few)],
    }  # fmt: skip


def _openbookqa(generator, place):
    row = _arc(generator, place)
    return {**row, "question_stem": row.pop("question"), "answerKey": " " + row["answerKey"]}


def _piqa(generator, _):
    first, second = _chosen(generator, 2, words=12)
    return {
        "goal": _words(generator, 5), "sol1": first, "sol2": second,
        "label": int(generator.integers(2)),
    }  # fmt: skip


def _social_iqa(generator, _):
    answers = dict(zip(("answerA", "answerB", "answerC"), _chosen(generator, 3), strict=True))
    return {
        "context": _words(generator, 10) + ".", "question": "Why?", **answers,
        "label": str(1 + generator.integers(3)),
    }  # fmt: skip


def _storycloze(generator, _):
    story = {f"input_sentence_{n}": _words(generator, 5) + "." for n in range(1, 5)}
    first, second = _chosen(generator, 2)
    return {
        **story, "sentence_quiz1": first, "sentence_quiz2": second,
        "answer_right_ending": int(1 + generator.integers(2)),
    }  # fmt: skip


MAKERS = dict(
    zip(
        NINE,
        (
            _hellaswag,
            _lambada,
            _winogrande,
            _openbookqa,
            _arc,
            _arc,
            _piqa,
            _social_iqa,
            _storycloze,
        ),
        strict=True,
    )
)


def write_task(folder, task, count=7, split="", seed=0):
    """Items of a task, as `TASK.jsonl` or `TASK-SPLIT.jsonl`."""
    generator = np.random.default_rng([seed, NINE.index(task), len(split)])
    rows = [MAKERS[task](generator, place) for place in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (f"{task}-{split}.jsonl" if split else f"{task}.jsonl")
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def write_tasks(folder, tasks=NINE, **options):
    """Items of several tasks; some have a file for solved examples."""
    for task in tasks:
        write_task(folder, task, **options)
        if task in ("arc_easy", "openbookqa"):
            write_task(folder, task, split="validation", **options)
    return folder


def asked(tasks="all", rows=None, num_fewshot=0, limit=None):
    """The config of tasks over some rows."""
    return EvaluationConfig(
        tasks=tasks, tasks_dir=rows and str(rows), num_fewshot=num_fewshot, tasks_limit=limit
    )


def tokenizer_for_tasks(folder):
    """A byte-level BPE of the words that the items are made of."""
    return load_tokenizer(byte_level(folder, texts=[" ".join(WORDS), "Question: Answer: Q: A:"]))


YAML_FILES = {
    "lambada_openai": "lambada/lambada_openai", "winogrande": "winogrande/default",
    "arc_easy": "arc/arc_easy", "arc_challenge": "arc/arc_challenge", "social_iqa": "siqa/siqa",
    "storycloze": "storycloze/storycloze_2016",
}  # fmt: skip


def write_harness_config(folder, task, tasks_dir):
    """A task of the harness over local rows, as its own documents say how to make one."""
    import lm_eval.tasks

    own = Path(lm_eval.tasks.__file__).parent / YAML_FILES.get(task, f"{task}/{task}")
    files = {"asked": str(tasks_dir / f"{task}.jsonl")}
    examples = tasks_dir / f"{task}-validation.jsonl"
    if examples.is_file():
        files["examples"] = str(examples)
    config = {
        "include": f"{own}.yaml", "task": task, "dataset_path": "json", "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
        "training_split": None, "validation_split": None, "test_split": "asked",
        "fewshot_split": "examples" if "examples" in files else "asked",
    }  # fmt: skip
    (folder / f"{task}.yaml").write_text(json.dumps(config))  # JSON is YAML


def ask_harness(model, tokenizer, tasks, tasks_dir, folder, num_fewshot, limit=None):
    """What `simple_evaluate` says of tasks over local rows, with its own model and task manager."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from miniplm.evaluation.harness import quiet_harness

    folder.mkdir(parents=True)
    for task in tasks:
        write_harness_config(folder, task, tasks_dir)
    with quiet_harness(), warnings.catch_warnings():
        return simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3),
            tasks=list(tasks),
            num_fewshot=num_fewshot,
            limit=limit,
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
            bootstrap_iters=2,
        )
