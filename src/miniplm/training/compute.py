"""What training by each method costs, in FLOPs for a predicted token.

With F for a forward pass, a student's forward and backward pass is 3 F_student; a teacher beside it
adds F_teacher (MiniPLM, arXiv 2410.17215, section 3.1); dynamic weights add the student's output
layer once more. MiniLLM adds the student's writing, and the teacher's output layer runs on what was
written only. A forward pass that activation checkpointing makes again is not counted: it is a way
to run the method, not a part of it.
"""

import numpy as np

from miniplm.errors import ConfigError
from miniplm.generation.config import num_new_tokens
from miniplm.generation.cost import generation_cost
from miniplm.model_size import TRAINING_TO_FORWARD, ModelSize
from miniplm.training.config import TAUGHT, TrainingConfig


def training_flops_per_token(
    training: TrainingConfig, student: ModelSize, teacher: ModelSize | None = None
) -> float:
    """FLOPs of training for a token, the teacher's part included.

    Args:
        training: Its method and reweighting count. `sparse_kd` and `seqkd` pay for the teacher
            before training, not here.
        student: Its size.
        teacher: Size of the teacher, where it runs beside the student.

    Raises:
        ConfigError: The method takes a teacher, and none is given.
    """
    flops = TRAINING_TO_FORWARD * student.forward_flops_per_token
    if training.reweighting.kind in ("dynamic", "dynamic_tokens"):
        flops += student.output_flops_per_token
    if training.method not in TAUGHT:
        return flops
    if teacher is None:
        raise ConfigError("training.method", [f"{training.method} needs a teacher; none is given"])
    if training.method == "minillm":
        return _on_policy_flops_per_token(training, student, teacher)
    return flops + teacher.forward_flops_per_token


def _on_policy_flops_per_token(
    training: TrainingConfig, student: ModelSize, teacher: ModelSize
) -> float:
    """Of rows of prompt and continuation, as if none of them ended early."""
    prompt = training.on_policy.prompt_tokens
    new = new_tokens(training, student.length)
    positions = prompt + new - 1
    writing = generation_cost(student).flops(prompt, np.array([new]))
    forward = student.forward_flops(positions) * positions
    if training.kd_ratio == 1:  # the prompt's own tokens are not learnt
        forward -= student.output_flops_per_token * (prompt - 1)
    learning = TRAINING_TO_FORWARD * forward
    body = teacher.forward_flops(positions) - teacher.output_flops_per_token
    judging = body * positions + teacher.output_flops_per_token * new
    return (writing + learning + judging) / positions


def new_tokens(training: TrainingConfig, max_length: int, place: str = "training.on_policy") -> int:
    """Most tokens that a student writes behind a prompt. Raises what `num_new_tokens` raises."""
    on_policy = training.on_policy
    return num_new_tokens(on_policy.prompt_tokens, on_policy.new_tokens, max_length, place)
