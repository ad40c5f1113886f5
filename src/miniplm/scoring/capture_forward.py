"""From ids to the entries that are captured of a teacher's distributions.

A distribution is over the ids of the tokenizer: rows that pad the teacher's output layer take no
part, so that a student padded otherwise can be trained on it. Logits are rounded to the dtype that
the teacher runs in, as a whole output layer's are; what is made of them is float32.

Axes: B sequences, T positions, N positions that have a target, C positions of a chunk, D hidden
width, V vocabulary, E entries of all positions.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from miniplm.data.chance import uniform_by_position
from miniplm.data.loader import IGNORED
from miniplm.errors import ModelError
from miniplm.model import hidden_states, output_layer
from miniplm.scoring.batches import RowBatch
from miniplm.scoring.capture_files import CapturedRow, CaptureInfo
from miniplm.scoring.log_probs import chunk_length
from miniplm.scoring.sampling import BLOCK, Entries, sampled_entries, top_entries

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.inference_mode()
def captured_rows(
    model: "PreTrainedModel",
    batch: RowBatch,
    sequence_ids_B: NDArray[np.int64],
    lengths_B: NDArray[np.int32],
    info: CaptureInfo,
) -> list[CapturedRow]:
    """The entries of some rows, in their order.

    Args:
        model: The teacher, on the device it is to run on.
        batch: The rows.
        sequence_ids_B: Their ids.
        lengths_B: Their numbers of ids.
        info: What to keep, and the seed.

    Raises:
        ModelError: A logit is not finite.
    """
    counted_BT = batch.targets_BT != IGNORED
    hidden_BTD = hidden_states(model, batch.input_ids_BT.to(model.device, non_blocking=True))
    weight_VD, bias_V = output_layer(model)
    weight_VD = weight_VD[: info.vocab_size]
    bias_V = None if bias_V is None else bias_V[: info.vocab_size]
    hidden_ND = hidden_BTD.to(weight_VD)[counted_BT.to(weight_VD.device)]
    uniform_BT = uniform_by_position(sequence_ids_B, counted_BT.shape[1], info.seed)
    uniform_N = torch.from_numpy(uniform_BT)[counted_BT].to(weight_VD.device)
    # the blocks that draws fall into take memory beside the logits
    length = chunk_length(max(info.vocab_size, 2 * info.entries * BLOCK), hidden_ND.device)
    sequence_ids_N = torch.from_numpy(sequence_ids_B)[counted_BT.nonzero(as_tuple=True)[0]]
    columns = (hidden_ND, uniform_N, sequence_ids_N)
    parts = []
    for hidden_CD, uniform_C, sequence_ids_C in zip(
        *(torch.split(column, length) for column in columns), strict=True
    ):
        logits_CV = torch.mm(hidden_CD, weight_VD.t()).float()
        if bias_V is not None:
            logits_CV += bias_V
        largest_C1 = logits_CV.amax(dim=1, keepdim=True)
        _check_finite(largest_C1.squeeze(1), sequence_ids_C, info)
        parts.append(_entries(logits_CV.sub_(largest_C1), uniform_C, info))
    return _rows(parts, counted_BT.numpy(), lengths_B - 1)


def _entries(centred_CV: torch.Tensor, uniform_C: torch.Tensor, info: CaptureInfo) -> Entries:
    if info.method == "top_k":
        return top_entries(centred_CV, info.entries)
    return sampled_entries(centred_CV, uniform_C, info.entries, info.temperature)


def _rows(
    parts: list[Entries], counted_BT: NDArray[np.bool_], num_positions_B: NDArray[np.int32]
) -> list[CapturedRow]:
    """The entries of positions with a target, by rows."""
    num_entries_BT = np.zeros(counted_BT.shape, dtype=np.int32)
    num_entries_BT[counted_BT] = _joined([part.num_entries_C for part in parts])
    ends_B = num_entries_BT.sum(axis=1, dtype=np.int64).cumsum()
    ids = np.split(_joined([part.ids_E for part in parts]), ends_B[:-1])
    weights = np.split(_joined([part.weights_E for part in parts]), ends_B[:-1])
    lengths = num_positions_B.tolist()
    numbers = [row[:length] for row, length in zip(num_entries_BT, lengths, strict=True)]
    return [CapturedRow(*columns) for columns in zip(numbers, ids, weights, strict=True)]


def _joined(parts: list[torch.Tensor]) -> NDArray[np.generic]:
    """Parts as one array on the host, in half of the space that torch's whole numbers take."""
    joined = torch.cat(parts)
    narrow = joined if joined.is_floating_point() else joined.to(torch.int32)
    array: NDArray[np.generic] = narrow.cpu().numpy()
    return array


def _check_finite(largest_C: torch.Tensor, sequence_ids_C: torch.Tensor, info: CaptureInfo) -> None:
    finite_C = largest_C.isfinite()
    if finite_C.all():
        return
    bad = np.unique(sequence_ids_C[~finite_C.cpu()].numpy()).tolist()
    raise ModelError(
        f"{info.model}: {len(bad)} of the sequences of a batch have logits that are not finite "
        f"(ids {bad[:5]}). The model's weights are damaged, or its numbers leave the range of "
        "scoring.dtype; try scoring.dtype=float32."
    )
