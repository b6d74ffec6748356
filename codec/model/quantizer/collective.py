"""Sums, gathers and broadcasts over the processes of a distributed run; the identity in a single process."""

import torch
import torch.distributed as dist
from torch import Tensor


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_ranks(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Sum each float32 tensor over all ranks with one flat all-reduce."""
    if not _distributed():
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return tuple(part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True))


def mean_over_ranks(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Average each float32 tensor over all ranks with one flat all-reduce."""
    world_size = dist.get_world_size() if _distributed() else 1
    return tuple(total / world_size for total in sum_over_ranks(*tensors))


def broadcast_from_first(*tensors: Tensor) -> None:
    """Overwrite each tensor, in place, with that of the first rank."""
    if _distributed():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def gather_rows(rows: Tensor, valid: Tensor | None = None) -> Tensor:
    """Concatenate the valid rows `[M, d]` of all ranks, in rank order; ranks may hold different numbers of rows."""
    if valid is not None:
        rows = rows[valid]
    if not _distributed():
        return rows
    lengths = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, torch.tensor([len(rows)], device=rows.device))
    longest = int(max(lengths))
    padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
    gathered = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(gathered, padded)
    return torch.cat([part[: int(length)] for part, length in zip(gathered, lengths, strict=True)])
