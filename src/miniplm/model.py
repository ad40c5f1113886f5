"""Models: loading teachers and references, building students of any family from a shape.

Axes: B sequences, T positions, D hidden width, V rows of the output layer. A model is used
through two things that every causal family of `transformers` has: the body, which gives hidden
states `[B, T, D]`, and the output layer's weight `[V, D]`. Logits `[B, T, V]` are never made.
"""

import difflib
import logging
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from miniplm.config import Config
from miniplm.errors import ModelError, reason_of
from miniplm.known_files import fingerprint_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from transformers import PretrainedConfig, PreTrainedModel

Dtype = Literal["float32", "bfloat16"]

_VOCABULARY_MULTIPLE = 64
"""Vocabularies of models from scratch are padded to this; matrix units like round numbers."""

_SHAPE_FIELDS = {
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "intermediate_size": "intermediate_size",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
}
"""Our names to those that transformers has in nearly all families."""

_OWN_NAMES = {"mamba2": {"num_heads": "num_heads"}}
"""Of families that have other names for them."""

_DERIVED = {"mamba": {"intermediate_size"}, "mamba2": {"intermediate_size"}}
"""Fields that a family works out itself."""

_UNDECLARED = {"qwen3_moe": {"head_dim"}}
"""Fields that a family reads although its config does not name them."""

_LOGIT_CHANGES = (
    "final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier",
    "logits_soft_cap", "output_logit_soft_cap",
)  # fmt: skip
_FIELDS_BY_LAYER = ("layer_types", "mlp_layer_types")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
EXPERT_FAMILIES = ("qwen2_moe", "qwen3_moe", "mixtral", "olmoe")
"""Mixtures of experts that are counted and trained rightly: softmax routers of this one kind."""


class ShapeConfig(Config):
    """A model from scratch. What a family does not have (Mamba's heads) stays null."""

    family: str = Field("qwen2", description="model type of transformers: qwen2, llama, mamba, ...")
    hidden_size: int = Field(ge=8, description="width")
    intermediate_size: int | None = Field(None, ge=8, description="width of the feed-forward part")
    num_layers: int = Field(ge=1, description="layers")
    num_heads: int | None = Field(None, ge=1, description="attention heads")
    num_kv_heads: int | None = Field(None, ge=1, description="key/value heads; null: num_heads")
    tie_embeddings: bool = Field(False, description="one matrix for input and output embeddings")
    extra: dict[str, Any] = Field(
        default_factory=dict, description="further fields of the family's config, by its own names"
    )


class ModelConfig(Config):
    """Where a model comes from: released weights, a config to start from scratch, or a shape."""

    name: str | None = Field(None, description="released model: hub name or folder with weights")
    revision: str | None = Field(None, description="hub revision")
    trust_remote_code: bool = Field(False, description="run Python code that comes with it")
    config_from: str | None = Field(
        None, description="from scratch: hub name or folder whose config.json gives the shape"
    )
    shape: ShapeConfig | None = Field(None, description="from scratch: the shape")

    @model_validator(mode="after")
    def _one_origin(self) -> "ModelConfig":
        given = [key for key in ("name", "config_from", "shape") if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(f"give one of name, config_from and shape; found {found}")
        return self

    @property
    def from_scratch(self) -> bool:
        """Whether the model has to be trained before it is of use."""
        return self.name is None

    @property
    def origin_fingerprint(self) -> str:
        """Changes with the files of a local folder, but its card; a hub name stands for itself."""
        place = self.name or self.config_from
        if place and Path(place).is_dir():
            files = (p for p in Path(place).iterdir() if p.is_file() and p.name != "README.md")
            return fingerprint_files(sorted(files))
        return f"hub:{place}" if place else "shape"


def model_config(config: ModelConfig, vocab_size: int, max_length: int) -> "PretrainedConfig":
    """The `transformers` config of a model from scratch.

    Args:
        config: Must be from scratch.
        vocab_size: Entries of the tokenizer; padded up to a multiple of 64.
        max_length: Positions the model has to serve.

    Raises:
        ModelError: The family is unknown, or does not take these fields.
    """
    from transformers import AutoConfig

    padded = -(-vocab_size // _VOCABULARY_MULTIPLE) * _VOCABULARY_MULTIPLE
    common = {
        "vocab_size": padded,
        "max_position_embeddings": max_length,
        "use_cache": False,
        # the special ids of a family's own tokenizer mean something else in ours
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    try:
        if config.config_from is not None:
            made = AutoConfig.from_pretrained(
                config.config_from, trust_remote_code=config.trust_remote_code, **common
            )
        else:
            assert config.shape is not None
            fields = {**common, **_shape_fields(config.shape), **config.shape.extra}
            made = AutoConfig.for_model(config.shape.family, **fields)
        refuse_unsupported(made)
        _without_dropout(made)
    except config_errors() as error:
        given = config.config_from or (config.shape and config.shape.family)
        raise ModelError(
            f"cannot make a model config from {given!r}: {reason_of(error)}"
        ) from error
    return made


def _without_dropout(config: "PretrainedConfig") -> None:
    """No chance in the forward pass: what is learnt must not depend on how batches are split."""
    for name, value in config.to_dict().items():
        if ("dropout" in name or name.endswith("_pdrop")) and isinstance(value, float):
            setattr(config, name, 0.0)


def with_layers(config: "PretrainedConfig", count: int) -> "PretrainedConfig | None":
    """The same model with `count` layers; None where the family ties other fields to the number."""
    fields = {
        name: value[:count] if name in _FIELDS_BY_LAYER and value else value
        for name, value in config.to_dict().items()
    }
    try:
        return type(config).from_dict({**fields, "num_hidden_layers": count})
    except config_errors():
        return None


def config_errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What `transformers` raises for a config that it cannot read or make, and `more`."""
    from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError

    ours = (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError)
    return (*ours, HfHubHTTPError, StrictDataclassError, *more)


def released_config(config: ModelConfig) -> "PretrainedConfig":
    """The `transformers` config of a released model, without its weights.

    Raises:
        ModelError: It cannot be found or read, or its family is not supported.
    """
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(
            config.name, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
        refuse_unsupported(found)
    except config_errors() as error:
        raise ModelError(
            f"cannot read the config of {config.name!r}: {reason_of(error)}. Expected "
            "the name of a hub repository or a folder with config.json and safetensors weights."
            f"{_other_folder(str(config.name))}"
        ) from error
    return found


def _other_folder(name: str) -> str:
    """What may have been meant by a name that is no model's."""
    folder = Path(name).expanduser()
    if (folder / "model" / "config.json").is_file():
        return f" Did you mean {folder / 'model'}?"
    if name.startswith((".", "/", "~")) and not folder.exists():
        return f" There is no folder {folder}."
    return ""


def _shape_fields(shape: ShapeConfig) -> dict[str, Any]:
    """The shape under the family's own names; what the family lacks or needs is checked."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if shape.family not in CONFIG_MAPPING_NAMES:
        nearest = difflib.get_close_matches(shape.family, CONFIG_MAPPING_NAMES, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else "qwen2, llama, gpt_neox, mamba, ..."
        raise ValueError(f"transformers knows no such model type; {hint}")
    family = AutoConfig.for_model(shape.family)
    fields: dict[str, Any] = {"tie_word_embeddings": shape.tie_embeddings}
    names = {**_SHAPE_FIELDS, **_OWN_NAMES.get(shape.family, {})}
    for ours, theirs in names.items():
        value = getattr(shape, ours)
        if ours == "num_kv_heads" and hasattr(family, theirs):
            value = value or shape.num_heads
        known = hasattr(family, theirs) and ours not in _DERIVED.get(shape.family, ())
        if known and value is None and theirs not in shape.extra:
            raise ValueError(f"the family {shape.family} needs shape.{ours}")
        if value is not None and not known:
            raise ValueError(f"the family {shape.family} has no {ours}; leave shape.{ours} out")
        if value is not None:
            fields[theirs] = value
    undeclared = _UNDECLARED.get(shape.family, ())
    unknown = [name for name in shape.extra if not hasattr(family, name) and name not in undeclared]
    if unknown:
        raise ValueError(f"the family {shape.family} has no field {unknown[0]!r} (shape.extra)")
    if shape.family == "mamba2":
        _check_mamba2({**family.to_dict(), **fields, **shape.extra})
    elif shape.num_heads and shape.hidden_size % shape.num_heads and "head_dim" not in shape.extra:
        raise ValueError(
            f"hidden_size {shape.hidden_size} is not a multiple of num_heads {shape.num_heads}"
        )
    return fields


def _check_mamba2(fields: Mapping[str, Any]) -> None:
    """Refuse fields that do not fit each other; what is not given is as transformers has it.

    Raises:
        ValueError: They do not.
    """
    inner = fields["hidden_size"] * fields["expand"]
    num_heads, head_dim, n_groups = (fields[name] for name in ("num_heads", "head_dim", "n_groups"))
    if inner != num_heads * head_dim:
        raise ValueError(
            f"hidden_size * expand ({fields['hidden_size']} * {fields['expand']} = {inner}) has to "
            f"be num_heads * head_dim ({num_heads} * {head_dim} = {num_heads * head_dim}); set "
            "shape.num_heads, and shape.extra.head_dim and expand, so that they fit"
        )
    if num_heads % n_groups:
        raise ValueError(
            f"num_heads ({num_heads}) has to be a multiple of n_groups ({n_groups}); set "
            "shape.extra.n_groups"
        )


def refuse_unsupported(config: "PretrainedConfig") -> None:
    """Refuse families that would be scored, trained or counted wrongly.

    Raises:
        ValueError: Logits are changed behind the output layer, or there are experts of a kind
            that we do not know.
    """
    for name in _LOGIT_CHANGES:
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise ValueError(
                f"the family {config.model_type} changes its logits behind the output layer "
                f"({name} = {getattr(config, name)}), which is not supported yet"
            )
    for name in _EXPERTS:
        if (getattr(config, name, None) or 0) > 1 and config.model_type not in EXPERT_FAMILIES:
            raise ValueError(
                f"the family {config.model_type} is a mixture of experts ({name} = "
                f"{getattr(config, name)}) of a kind that is not supported yet; supported are "
                f"{', '.join(EXPERT_FAMILIES)}"
            )


def build_model(config: "PretrainedConfig", seed: int) -> "PreTrainedModel":
    """A model with fresh float32 weights that depend on config and seed only.

    Raises:
        ModelError: The family has no causal language model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        except ValueError as error:
            raise ModelError(
                f"{config.model_type!r} is no causal language model of transformers"
            ) from error


def load_model(
    name: str | Path,
    *,
    dtype: Dtype = "float32",
    revision: str | None = None,
    trust_remote_code: bool = False,
    device_map: str | dict[str, str] | None = None,
) -> "PreTrainedModel":
    """Load a released or trained causal model for inference.

    Args:
        name: Hub name or folder.
        dtype: Of the weights.
        revision: Hub revision.
        trust_remote_code: Run Python code that comes with it.
        device_map: `auto` spreads a model that is larger than one device over all GPUs, then
            memory, then disk (Accelerate's device map); a mapping says where each part goes. The
            embeddings and the output layer are kept off the disk. None loads to the CPU.

    Raises:
        ModelError: It cannot be found or read, or its weights do not fill it.
    """
    import torch

    model, missing = _read_model(
        name,
        dtype=getattr(torch, dtype),
        revision=revision,
        trust_remote_code=trust_remote_code,
        device_map=device_map,
    )
    if missing:
        raise ModelError(
            f"{name}: weights are missing ({', '.join(missing[:3])}, ...); the download is "
            "incomplete"
        )
    if device_map is not None:
        _fetch_from_disk(model.get_input_embeddings())
        _fetch_from_disk(model.get_output_embeddings())
    return model.eval()


def _read_model(name: str | Path, **options: Any) -> "tuple[PreTrainedModel, list[str]]":  # noqa: ANN401
    """The model, and the names of weights that its files do not hold."""
    from transformers import AutoModelForCausalLM

    try:
        with quiet_transformers():
            model, info = AutoModelForCausalLM.from_pretrained(
                str(name), output_loading_info=True, **options
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(
            f"cannot load the model {str(name)!r}: {reason_of(error)}. Expected the name of a hub "
            "repository or a folder with config.json and safetensors weights."
        ) from error
    return model, sorted(info["missing_keys"])


def _fetch_from_disk(layer: "torch.nn.Module") -> None:
    """Bring a layer that was left on disk into memory for good.

    Embeddings are small beside the layers, tell where inputs go, and we multiply with the output
    layer's weight ourselves.
    """
    import torch
    from accelerate.hooks import remove_hook_from_module
    from accelerate.utils import align_module_device

    if not layer.weight.is_meta:
        return
    with align_module_device(layer):
        fetched = {name: value.clone() for name, value in layer.named_parameters()}
    remove_hook_from_module(layer)
    for name, value in fetched.items():
        setattr(layer, name, torch.nn.Parameter(value, requires_grad=False))


@contextmanager
def quiet_transformers() -> "Iterator[None]":
    """No weight-loading bars in the middle of our own output."""
    from transformers.utils import logging as transformers_logging

    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    quiet = logging.getLogger("transformers")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        yield
    finally:
        quiet.setLevel(level)
        if was_enabled:
            transformers_logging.enable_progress_bar()


def hidden_states(model: "PreTrainedModel", input_ids_BT: "torch.Tensor") -> "torch.Tensor":
    """Last hidden states `[B, T, D]`, after the final norm: what the output layer takes."""
    output = model.base_model(input_ids=input_ids_BT, use_cache=False)
    states: torch.Tensor = output.last_hidden_state
    return states


def num_experts(model: "PreTrainedModel") -> int:
    """Experts of a layer; 0 where the model is no mixture of experts."""
    return int(getattr(model.config, "num_experts", 0) or 0)


def routed_hidden_states(
    model: "PreTrainedModel", input_ids_BT: "torch.Tensor"
) -> "tuple[torch.Tensor, tuple[torch.Tensor, ...]]":
    """As `hidden_states`, with what each router of a mixture of experts gives, `[B * T, E]`."""
    output = model.base_model(input_ids=input_ids_BT, use_cache=False, output_router_logits=True)
    states: torch.Tensor = output.last_hidden_state
    return states, output.router_logits


def output_layer(model: "PreTrainedModel") -> tuple["torch.Tensor", "torch.Tensor | None"]:
    """Weight `[V, D]` and bias `[V]` of the output layer."""
    layer = model.get_output_embeddings()
    return layer.weight, getattr(layer, "bias", None)
