"""The frozen weights: kept unpacked where memory allows, else one group at a time in a shared scratch buffer."""

from __future__ import annotations

import torch

from nomoat.tune.unpack import PackedMatrix, Unpacker

__all__ = ["FrozenWeights", "WeightGroup"]


class FrozenWeights:
    """Makes and owns the groups of one network and the scratch buffer that unkept groups share.

    A group from scratch is valid until the next group is asked for; the network uses one at a time.
    """

    def __init__(self, unpacker: Unpacker, dtype: torch.dtype, keep: bool) -> None:
        self.unpacker, self.dtype, self.keep = unpacker, dtype, keep
        self._scratch = torch.empty(0, dtype=dtype)

    def group(self, matrices: list[PackedMatrix], keep: bool | None = None) -> WeightGroup:
        """Matrices that share their input, stacked along their output rows."""
        group = WeightGroup(self, matrices)
        if self.keep if keep is None else keep:
            group.kept = group.unpacked(torch.empty(group.rows, group.columns, dtype=self.dtype))
        return group

    def scratch(self, rows: int, columns: int) -> torch.Tensor:
        """A (rows, columns) view of the shared buffer, grown to the largest that was asked for."""
        if self._scratch.numel() < rows * columns:
            self._scratch = torch.empty(rows * columns, dtype=self.dtype)
        return self._scratch[: rows * columns].view(rows, columns)


class WeightGroup:
    """A frozen (rows, columns) matrix, rows stacked from one or more packed tensors (q/k/v, gate/up)."""

    def __init__(self, weights: FrozenWeights, matrices: list[PackedMatrix]) -> None:
        self.matrices = matrices
        self.rows, self.columns = sum(m.rows for m in matrices), matrices[0].columns
        self.kept: torch.Tensor | None = None
        self._weights = weights

    def dense(self) -> torch.Tensor:
        """The weights (rows, columns) in the compute dtype; not to be written, not to be held."""
        if self.kept is not None:
            return self.kept
        return self.unpacked(self._weights.scratch(self.rows, self.columns))

    def unpacked(self, into: torch.Tensor) -> torch.Tensor:
        """Unpack every matrix into its rows of `into` and return it."""
        start = 0
        for matrix in self.matrices:
            self._weights.unpacker.unpack(matrix, into[start : start + matrix.rows])
            start += matrix.rows
        return into
