"""A model in shards: each of several processes holds its part of the weights, of the gradients and
of the optimizer's states, and gets the others' part of a layer while it computes it (FSDP2)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from residency.train import ranks
from residency.train.plan import Plan


def arguments(plan: Plan) -> dict[str, Any]:
    """What transformers' `TrainingArguments` have more of for a plan: nothing if it shards none.

    Checkpoints are in shards as well: no process has to hold all of it.
    """
    if not plan.sharded:
        return {}
    return {"fsdp": True, "fsdp_config": {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"}}


def trainer_of(base: Any, plan: Plan) -> Any:
    """transformers' trainer `base`, of a plan that shards one that does it well."""
    if not plan.sharded:
        return base

    class Sharding(base):  # type: ignore[misc]
        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            if plan.device == "cpu":
                _shard_on_cpu(self, plan.processes)

        def save_model(self, output_dir: str, _internal_call: bool = False) -> None:
            # Transformers 5.23 makes it later, and finds no best checkpoint where it is not.
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            super().save_model(output_dir, _internal_call)

    return Sharding


def _shard_on_cpu(trainer: Any, processes: int) -> None:
    """Make the accelerator that `trainer` has just created shard on a CPU too.

    accelerate 1.15 takes its FSDP plugin on devices alone, and trains with whole copies on a CPU
    without a word, though all that it would do runs there as well.
    """
    from accelerate.parallelism_config import ParallelismConfig
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    state = trainer.accelerator.state
    state.distributed_type = DistributedType.FSDP
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**trainer.args.fsdp_plugin_args)
    # Left to itself, a torch that was built for GPUs would put the shards on them.
    state.parallelism_config = ParallelismConfig(dp_shard_size=processes)
    warnings.filterwarnings("ignore", "Slicing a flattened dim")  # accelerate does it itself
    state.device_mesh = state.parallelism_config.build_device_mesh("cpu")
    trainer.is_fsdp_enabled = True


def sharded(model: Any) -> bool:
    """Whether `model` is in shards."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule)


def asked(model: Any) -> bool:
    """Whether this process has to ask `model` where the first one does: one in shards says nothing
    until all processes ask it."""
    return ranks.rank() == 0 or sharded(model)


def whole_weights(model: Any) -> dict[str, Any] | None:
    """The weights of a sharded `model` by name, in the host's memory; under an adapter only those
    that are learnt. To be called by all processes, of which the first gets them.

    None for a model in one piece, whose weights are at hand.
    """
    if not sharded(model):
        return None
    from peft import PeftModel
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(
        full_state_dict=True,
        cpu_offload=True,
        ignore_frozen_params=isinstance(model, PeftModel),
    )
    found: dict[str, Any] = get_model_state_dict(model, options=options)
    # What is tied was gathered once for each of its names, and would be written as often.
    first: dict[int, str] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        if name in found:
            found[name] = found[first.setdefault(id(weight), name)]
    return found


def held(model: Any) -> list[int]:
    """How many weights of `model` each process holds. To be called by all of them."""
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor

    own = sum(
        (weight.to_local() if isinstance(weight, DTensor) else weight).numel()
        for weight in model.parameters()
    )
    counts: list[int] = [0] * ranks.world()
    dist.all_gather_object(counts, own)
    return counts
