"""A cache of keys and values with room for the whole text from the start.

Axes: B sequences, H key and value heads, T positions, E width of a head.
"""

from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, `[B, H, T, E]`: views of tensors made for all T to come.

    The layer it stands in for joins old and new at every token, which copies the whole cache each
    time.

    Args:
        room: Positions to make place for, T at the end.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make the tensors, once the shape of keys and values is known."""
        super().lazy_initialization(key_states, value_states)
        self._all_keys, self._all_values = (
            states.new_empty((*states.shape[:2], self._room, states.shape[3]))
            for states in (key_states, value_states)
        )
        self.keys, self.values = self._all_keys[:, :, :0], self._all_values[:, :, :0]

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        *_: Any,  # noqa: ANN401
        **__: Any,  # noqa: ANN401
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add positions; returns keys and values of all positions so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin = self.keys.shape[2]
        end = begin + key_states.shape[2]
        self._all_keys[:, :, begin:end] = key_states
        self._all_values[:, :, begin:end] = value_states
        self.keys, self.values = self._all_keys[:, :, :end], self._all_values[:, :, :end]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep the sequences at these indices, `[B]`."""
        length = self.keys.shape[2]
        self._all_keys = self._all_keys[beam_idx]
        self._all_values = self._all_values[beam_idx]
        self.keys, self.values = self._all_keys[:, :, :length], self._all_values[:, :, :length]


def roomy_cache(model: "PreTrainedModel", room: int) -> Cache:
    """An empty cache for a model; layers of other kinds (windows, states) are the family's own."""
    cache = DynamicCache(config=model.config)
    cache.layers = [
        RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache
