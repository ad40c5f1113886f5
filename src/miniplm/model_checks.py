"""Whether a model fits the data, and whether our log-probabilities are right for it.

Axes: B sequences, T positions, D hidden width, V rows of the output layer.
"""

from typing import TYPE_CHECKING

from miniplm.errors import ModelError, reason_of
from miniplm.model import (
    build_model,
    config_errors,
    hidden_states,
    output_layer,
    refuse_unsupported,
    with_layers,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def check_vocabulary(model: "PreTrainedModel", vocab_size: int, what: str) -> None:
    """Refuse a model whose vocabulary is smaller than the ids of the data.

    More rows than tokens (a padded vocabulary) are fine: they take part in the softmax, as they
    do in the model's own logits.

    Raises:
        ModelError: The model has fewer rows than the tokenizer has ids.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < vocab_size:
        raise ModelError(
            f"{what}: its vocabulary has {rows:,} rows, the token shards hold ids up to "
            f"{vocab_size - 1:,}. Tokenise the corpus with this model's own tokenizer "
            "(tokenizer.name), or choose a model of the same tokenizer."
        )


def check_length(model: "PreTrainedModel", max_length: int, what: str) -> None:
    """Refuse a model that serves fewer positions than the sequences have.

    Raises:
        ModelError: It does.
    """
    served = getattr(model.config, "max_position_embeddings", None)
    if served is not None and served < max_length:
        raise ModelError(
            f"{what}: serves {served:,} positions, the sequences have up to {max_length:,}. Lower "
            "packing.max_length and tokenise again, or choose another model."
        )


def check_causal_head(model: "PreTrainedModel") -> None:
    """Make sure that hidden states times the output layer are the model's logits, and causal.

    Some families scale or cap their logits, and some look ahead; our log-probabilities would be
    wrong for them.

    Raises:
        ModelError: They do.
    """
    import torch

    try:
        refuse_unsupported(model.config)
    except ValueError as error:
        raise ModelError(f"{error}. Use qwen2, llama, gpt_neox, mamba or a like family.") from error
    ids_BT = torch.arange(1, 9, device=model.device).unsqueeze(0)
    weight_VD, bias_V = output_layer(model)
    with torch.no_grad():
        expected_BTV = model(input_ids=ids_BT, use_cache=False).logits.float()
        states_BTD = hidden_states(model, ids_BT)
        found_BTV = torch.nn.functional.linear(states_BTD.to(weight_VD.dtype), weight_VD, bias_V)
        changed_BT = ids_BT.clone()
        changed_BT[:, -1] = 0
        ahead_BTD = (hidden_states(model, changed_BT) - states_BTD)[:, :-1]
    if not expected_BTV.isfinite().all():
        raise ModelError("the model's logits are not finite; its weights are damaged")
    allowed = 1e-3 if weight_VD.dtype == torch.float32 else 0.05
    difference = (found_BTV.float() - expected_BTV).abs().max().item()
    if not difference <= allowed * (1 + expected_BTV.abs().max().item()):
        raise ModelError(
            f"the family {model.config.model_type!r} changes its logits behind the output layer "
            f"(by up to {difference:.3g}); this is not supported yet. Use a family without logit "
            "scaling or soft-capping (qwen2, llama, gpt_neox, mamba, ...)."
        )
    if not ahead_BTD.abs().max().item() <= allowed * (1 + states_BTD.abs().max().item()):
        raise ModelError(
            f"the family {model.config.model_type!r} looks ahead of the position it predicts: it "
            "is no causal language model. Use one (qwen2, llama, gpt_neox, mamba, ...)."
        )


def check_scorer(model: "PreTrainedModel", vocab_size: int, max_length: int, what: str) -> None:
    """Refuse a model that cannot be run over token shards.

    Args:
        model: Ready for inference.
        vocab_size: Entries of the shards' tokenizer.
        max_length: Positions of their longest rows.
        what: Its name, for messages.

    Raises:
        ModelError: Its vocabulary or length is smaller, or its logits are not those of its output
            layer.
    """
    check_vocabulary(model, vocab_size, what)
    check_length(model, max_length, what)
    check_causal_head(model)


def check_shape(config: "PretrainedConfig") -> None:
    """Make sure that a shape can be built, runs, and is a causal language model.

    A copy of one layer and few entries is built and run, so that this is quick for any size.

    Raises:
        ModelError: It is not.
    """
    shallow = with_layers(config, 1) or config
    try:
        narrow = type(config).from_dict({**shallow.to_dict(), "vocab_size": 64})
        model = build_model(narrow, 0).eval()
        check_causal_head(model)
    except config_errors(AssertionError, RuntimeError) as error:
        raise ModelError(
            f"cannot build a causal language model of family {config.model_type!r}: "
            f"{reason_of(error)}"
        ) from error
