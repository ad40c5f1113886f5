"""What training by each method costs, in FLOPs for a predicted token.

With F for a forward pass, a student's forward and backward pass is 3 F_student; a teacher beside it
adds F_teacher (MiniPLM, arXiv 2410.17215, section 3.1); dynamic weights add the student's output
layer once more.
"""

from miniplm.errors import ConfigError
from miniplm.model_size import TRAINING_TO_FORWARD, ModelSize
from miniplm.training.config import TrainingConfig


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
    if training.method != "vanilla_kd":
        return flops
    if teacher is None:
        raise ConfigError("training.method", ["vanilla_kd needs a teacher; none is given"])
    return flops + teacher.forward_flops_per_token
