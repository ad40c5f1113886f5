"""Training compute of a number of tokens, where there is no curve to read it from.

The FLOPs of a curve are those that its training logged, and budgets in tokens are turned into
compute by them. For a model that was not trained there are two counts, which differ:
docs/scaling.md has both beside the figures that MiniPLM (arXiv 2410.17215) prints.
"""

from miniplm.model_size import TRAINING_TO_FORWARD, ModelSize


def training_flops(size: ModelSize, num_tokens: float) -> float:
    """As the project counts: three forward passes, of matrix products and of attention.

    This is plain training; `training.compute` has what a method adds.

    Args:
        size: Of the model, from `model_size.model_size`.
        num_tokens: To train on.

    Example:
        >>> size = ModelSize(num_params=100, num_embedding_params=20, forward_flops_per_token=230.0)
        >>> training_flops(size, 1000)
        690000.0
    """
    return TRAINING_TO_FORWARD * size.forward_flops_per_token * num_tokens


def six_nd(num_params: float, num_tokens: float) -> float:
    """C = 6 N D, from parameters alone (Kaplan et al., arXiv 2001.08361; Hoffmann et al.).

    It leaves attention out, and counts embeddings that are only looked up.

    Example:
        >>> six_nd(2e8, 1e12)
        1.2e+21
    """
    return 6.0 * num_params * num_tokens
