"""Curves of students that were never trained."""

import math

import numpy as np

from miniplm.scaling.curves import CurvePoint, LossCurve

# MiniPLM (arXiv 2410.17215): size and method, A_c, alpha_c, L_inf, losses at 1T and 10T tokens
PAPER_LAWS = {
    ("200M", "no KD"): (2.19e7, 0.41, 3.30, 3.35, 3.32),
    ("200M", "vanilla KD"): (9.77e7, 0.44, 3.34, 3.39, 3.35),
    ("200M", "MiniPLM"): (8.56e10, 0.59, 3.25, 3.28, 3.26),
    ("500M", "no KD"): (2.73e8, 0.45, 3.06, 3.12, 3.08),
    ("500M", "vanilla KD"): (3.14e8, 0.45, 3.05, 3.12, 3.07),
    ("500M", "MiniPLM"): (6.64e9, 0.52, 3.03, 3.06, 3.04),
    ("1.2B", "no KD"): (1.88e8, 0.43, 2.91, 2.98, 2.94),
    ("1.2B", "vanilla KD"): (1.10e10, 0.52, 2.90, 2.95, 2.91),
    ("1.2B", "MiniPLM"): (4.29e8, 0.45, 2.86, 2.92, 2.88),
}
PAPER_FLOPS_1T = {"200M": 1.26e21, "500M": 3.14e21, "1.2B": 7.30e21}
"""Training compute of 1T tokens, as the paper prints it."""


def law_of(constants):
    amplitude, exponent, floor = constants[:3]
    return lambda flops: amplitude / flops**exponent + floor


def made_up_curve(
    law, *, student="plain", run="run", num_params=100, per_token=600.0, num_tokens=1_000_000,
    count=40, noise=0.0, seed=0, finished=True, lr=None,
):  # fmt: skip
    """Evaluations at equal distances; `law` gives a loss for FLOPs, `lr` a rate for the share."""
    generator = np.random.default_rng(seed)
    points = []
    for place in range(1, count + 1):
        tokens = round(num_tokens * place / count)
        loss = law(tokens * per_token) * math.exp(generator.normal(0, noise) if noise else 0.0)
        rate = lr(place / count) if lr else 1.0
        points.append(CurvePoint(tokens, tokens * per_token, loss, rate))
    return LossCurve(student, run, tuple(points), num_params, finished)


def cosine(share):
    return 0.1 + 0.45 * (1 + math.cos(math.pi * share))
