"""What training by each method costs, in FLOPs for a predicted token.

F is a forward pass. A student's forward and backward pass is 3 F_student; a teacher beside it adds
F_teacher (MiniPLM, arXiv 2410.17215, section 3.1).
"""

from miniplm.errors import ConfigError
from miniplm.model_size import TRAINING_TO_FORWARD
from miniplm.training.config import Method


def training_flops_per_token(
    method: Method, student_forward: float, teacher_forward: float = 0.0
) -> float:
    """FLOPs of training for a token, the teacher's part included.

    Args:
        method: `sparse_kd` and `seqkd` pay for the teacher before training, not here.
        student_forward: Forward FLOPs of the student for a token.
        teacher_forward: Of the teacher, where it runs beside the student.

    Example:
        >>> training_flops_per_token("plain", 10.0)
        30.0
        >>> training_flops_per_token("vanilla_kd", 10.0, teacher_forward=7.0)
        37.0

    Raises:
        ConfigError: The method takes a teacher, and none is given.
    """
    if method != "vanilla_kd":
        return TRAINING_TO_FORWARD * student_forward
    if teacher_forward <= 0:
        raise ConfigError("training.method", [f"{method} needs a teacher; none is given"])
    return TRAINING_TO_FORWARD * student_forward + teacher_forward
