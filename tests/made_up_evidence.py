"""Made-up task results, scaling fits and a study: what the tests of the page draw."""

import math

from miniplm.report.scaling_content import FittedLoss, MeasuredLoss, ScalingContent, ScalingFit
from miniplm.report.study_content import StudyContent, StudyRow
from miniplm.report.task_content import TaskContent, TaskDifference, TaskResult
from miniplm.report.text_content import TextContent, TextDifference, TextResult

TASKS = {  # metric, chance, items, plain, miniplm
    "hellaswag": ("acc_norm", 0.25, 10_042, 0.271, 0.284),
    "lambada": ("acc", None, 5_153, 0.112, 0.149),
    "winogrande": ("acc", 0.5, 1_267, 0.507, 0.512),
    "openbookqa": ("acc_norm", 0.25, 500, 0.262, 0.274),
    "arc_easy": ("acc_norm", 0.25, 2_376, 0.331, 0.362),
    "piqa": ("acc_norm", 0.5, 1_838, 0.551, 0.574),
}


def tasks():
    results = [
        TaskResult(
            task, model, metric, value, math.sqrt(value * (1 - value) / items), chance, items
        )
        for task, (metric, chance, items, *values) in TASKS.items()
        for model, value in zip(("plain", "miniplm"), values, strict=True)
    ]
    for model, place in (("plain", 3), ("miniplm", 4)):
        mean = sum(row[place] for row in TASKS.values()) / len(TASKS)
        results.append(TaskResult("average", model, "mean", mean, 0.004, None, None))
    differences = [
        TaskDifference("hellaswag", "miniplm", "plain", 0.013, 0.004, 0.022),
        TaskDifference("winogrande", "miniplm", "plain", 0.005, -0.016, 0.026),
    ]
    return TaskContent(results, num_fewshot=0, average="average", differences=differences)


def texts():
    results = [
        TextResult(model, domain, bits, bits - 0.03, bits + 0.03, 2**bits, count)
        for domain, count, *pair in (
            ("letters", 40, 2.31, 2.22), ("minutes", 25, 1.94, 1.96),
            ("average of domains", 65, 2.125, 2.09), ("all text", 65, 2.17, 2.12),
        )
        for model, bits in zip(("plain", "miniplm"), pair, strict=True)
    ]  # fmt: skip
    differences = [
        TextDifference("miniplm", "plain", "letters", -0.09, -0.11, -0.07),
        TextDifference("miniplm", "plain", "minutes", 0.02, -0.01, 0.05),
    ]
    averages = ["average of domains", "all text"]
    single = [TextResult("plain", domain, 3.1, None, None, 8.6, 1) for domain in ("one", *averages)]
    return [
        TextContent("archive", results, differences, averages),
        TextContent("note", single, (), averages, ["wide and plain: unlike"]),
    ]


def loss_at(flops, scale):
    return scale / flops**0.12 + 1.9


def fit(method, scale, measured=8, until=1e19, refusal=None):
    flops = [1e15 * 3.1**place for place in range(measured)]
    grid = [flops[0] * (until / flops[0]) ** (place / 40) for place in range(41)]
    return ScalingFit(
        method,
        points=[MeasuredLoss(c, loss_at(c, scale) + 0.01 * math.sin(c), place > 0)
                for place, c in enumerate(flops)],
        grid=[] if refusal else [
            FittedLoss(c, loss_at(c, scale), loss_at(c, scale) - band, loss_at(c, scale) + band)
            for c in grid for band in (0.01 + 0.03 * max(0.0, math.log10(c / flops[-1])),)
        ],
        measured_to=flops[-1], formula="" if refusal else f"L(C) = {scale:g} / C^0.12 + 1.90",
        refusal=refusal,
    )  # fmt: skip


def scaling():
    fits = [
        fit("plain", 190.0), fit("miniplm", 180.0),
        fit("kd", 200.0, measured=2, refusal="Two points cannot fix three constants."),
    ]  # fmt: skip
    return ScalingContent(fits, ["miniplm needs 1.57 times less compute (1.31 to 1.90) at 2.1."])


def study():
    rows = []
    for size, level in (("1.2M parameters", 1.52), ("4.8M parameters", 1.41)):
        for method, gain in (("plain", 0.0), ("miniplm", -0.021), ("vanilla_kd", -0.008)):
            values = {seed: level + gain + 0.004 * math.sin(seed * 7 + gain * 900)
                      for seed in (1, 2, 3)}  # fmt: skip
            mean = sum(values.values()) / 3
            sd = math.sqrt(sum((value - mean) ** 2 for value in values.values()) / 2)
            interval = (gain, gain - 0.006, gain + 0.006) if gain else (None, None, None)
            rows.append(StudyRow(method, size, mean, sd, values, *interval))
    return StudyContent(
        "bits per byte, average of domains", "plain", rows,
        ["miniplm is better than plain in every seed at both sizes."],
    )  # fmt: skip
