"""Entropy tables: how a model's codes are entropy-coded in files. No module of the model reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from codec.errors import ModelError

TOTAL = 2**16
"""Sum of the frequencies of a row."""


@dataclass(frozen=True, eq=False)
class EntropyTables:
    """Frequencies of the codes in each context, on the CPU; `codec.bitstream.rans` describes the contexts.

    K levels, N entries of a codebook, R rows.
    """

    frequencies: Tensor
    """uint16 `[R, N]`, at least 1; every row sums to `TOTAL`."""
    previous: Tensor
    """uint8 `[K, N + 1]`, class of the code in the frame before; the last entry stands for no frame."""
    below: Tensor
    """uint8 `[K, N + 1]`, class of the code of the level below; the last entry stands for no level."""
    rows: Tensor
    """uint16 `[K, A, B]`, row of `frequencies` for a pair of such classes."""
    bits_per_frame: Tensor
    """float32 `[K]`, increasing: mean bits of a frame in files of the first k levels; chooses k for a bitrate."""

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def coding_tables(self) -> dict[str, Tensor]:
        """The tensors that an entropy coder needs, by name."""
        return {name: tensor for name, tensor in self.tensors().items() if name != "bits_per_frame"}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as arrays: PyTorch can't pickle uint16 tensors."""
        return _from_arrays, ({name: tensor.numpy() for name, tensor in self.tensors().items()},)

    def check(self, num_quantizers: int, codebook_size: int) -> None:
        """Raise ModelError unless the tables are for codes of `num_quantizers` levels of `codebook_size` codewords."""
        if not self._fit(num_quantizers, codebook_size):
            raise ModelError(
                f"the entropy tables are damaged, or not for {num_quantizers} levels of {codebook_size} codewords: "
                "take those that came with the model, or learn them anew"
            )

    def _fit(self, num_quantizers: int, codebook_size: int) -> bool:
        types = [torch.uint16, torch.uint8, torch.uint8, torch.uint16, torch.float32]
        if [tensor.dtype for tensor in self.tensors().values()] != types:
            return False
        bits = self.bits_per_frame
        tensors = [tensor.long() for tensor in self.coding_tables().values()]
        frequencies, previous, below, rows = tensors
        classes = (num_quantizers, codebook_size + 1)
        return (
            bits.shape == (num_quantizers,)
            and bool((bits.diff(prepend=bits.new_zeros(1)) > 0).all() and bits.isfinite().all())
            and all(tensor.numel() for tensor in tensors)
            and (frequencies.ndim, rows.ndim) == (2, 3)
            and (frequencies.shape[1], rows.shape[0]) == (codebook_size, num_quantizers)
            and previous.shape == below.shape == classes
            and bool((frequencies.sum(dim=1) == TOTAL).all() and (frequencies >= 1).all())
            and bool(
                (previous < rows.shape[1]).all() and (below < rows.shape[2]).all() and (rows < len(frequencies)).all()
            )
        )


def _from_arrays(arrays: Mapping[str, Any]) -> EntropyTables:
    return EntropyTables(**{name: torch.from_numpy(array) for name, array in arrays.items()})
