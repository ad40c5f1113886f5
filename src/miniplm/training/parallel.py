"""The processes that train one model together: started by `torchrun` or `accelerate launch`.

Two ways to share the work. DDP: each process holds all weights, gradients are averaged. FSDP (2):
each holds a part of weights, gradients and moments, and gets the rest when a layer needs it.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from accelerate import PartialState
from torch import distributed

from miniplm.runtime.devices import best_device
from miniplm.training.student_loss import StudentLoss

Kind = Literal["ddp", "fsdp"]


class Parallel:
    """This process among those that train.

    Attributes:
        device: Where this process computes.
        rank: Its number.
        world: How many there are.
        sharded: Whether weights are spread over them.
    """

    def __init__(self, kind: Kind = "ddp") -> None:
        state = PartialState(cpu=best_device().type == "cpu")
        self.device: torch.device = state.device
        self.rank: int = state.process_index
        self.world: int = state.num_processes
        self.sharded = kind == "fsdp" and self.world > 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def wrap(self, student: StudentLoss) -> torch.nn.Module:
        """The student as all processes train it; its optimiser has to be made after this."""
        student.to(self.device)
        if self.world == 1:
            return student
        if self.sharded:
            return self._shard(student)
        devices = [self.device] if self.device.type == "cuda" else None
        return torch.nn.parallel.DistributedDataParallel(student, device_ids=devices)

    def _shard(self, student: StudentLoss) -> torch.nn.Module:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        mesh = init_device_mesh(self.device.type, (self.world,))
        for layers in student.modules():
            if isinstance(layers, torch.nn.ModuleList):
                for layer in layers:
                    fully_shard(layer, mesh=mesh)
        fully_shard(student, mesh=mesh)
        register_fsdp_forward_method(student, "log_probs")
        return student

    @contextlib.contextmanager
    def synchronising(self, module: torch.nn.Module, *, on: bool) -> Iterator[None]:
        """Whether a backward pass in this block averages gradients over the processes."""
        if self.sharded:
            module.set_requires_gradient_sync(on)  # type: ignore[operator]
        if on or not isinstance(module, torch.nn.parallel.DistributedDataParallel):
            yield
            return
        with module.no_sync():
            yield

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes, in place."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def clip(self, parameters: Iterable[torch.nn.Parameter], max_norm: float) -> float:
        """Limit the norm of all gradients together; returns what it was."""
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        if isinstance(norm, distributed.tensor.DTensor):
            norm = norm.full_tensor()
        return float(norm)

    def gathered(self, model: torch.nn.Module) -> dict[str, torch.Tensor]:
        """The whole state of a sharded model, on the CPU of the first process."""
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            get_model_state_dict,
        )

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_model_state_dict(model, options=options)
        return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}

    def wait_for_all(self) -> None:
        """Go on when every process is here."""
        if self.world > 1:
            distributed.barrier()
