"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685): parameters in one flat vector, algebra per group of linears.

Linears that read the same input (q/k/v, gate/up) form a group: one GEMM for the frozen rows, one for all A.
    forward   z = x W^T;  u = x A^T;  z_i += s u_i B_i^T
    backward  v_i = s dz_i B_i;  dx = dz W + v A;  dA = v^T x;  dB_i = s dz_i^T u_i
The frozen W never gets a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nomoat.tune.weights import WeightGroup

__all__ = ["AdapterParameters", "LinearGroup", "Member", "Module"]


@dataclass(frozen=True)
class Module:
    """One adapted linear by its GGUF weight name, such as `blk.0.attn_q.weight`."""

    name: str
    in_features: int
    out_features: int


class AdapterParameters:
    """All A (r, in) and B (out, r) as views of flat float32 vectors, plus a copy in the compute dtype.

    `values` is the master, `gradients` is added to by the groups, `compute` is what the GEMMs read.
    """

    def __init__(
        self, modules: list[Module], r: int, lora_alpha: float, dtype: torch.dtype, seed: int
    ) -> None:
        self.modules, self.r, self.lora_alpha = modules, r, lora_alpha
        self.scale = lora_alpha / r
        count = sum(r * (m.in_features + m.out_features) for m in modules)
        self.values = torch.zeros(count, dtype=torch.float32)
        self.gradients = torch.zeros(count, dtype=torch.float32)
        self._offsets = self._lay_out()
        self._initialise(seed)
        same = dtype == torch.float32
        self.compute = self.values if same else torch.empty(count, dtype=dtype)
        self.refresh()

    def _lay_out(self) -> dict[str, int]:
        # Order: A of every member of a group, then B of each; a group's A thus stack without copying.
        offsets, position = {}, 0
        for module in self.modules:
            offsets[module.name] = position
            position += self.r * module.in_features
        for module in self.modules:
            offsets[module.name + "#b"] = position
            position += self.r * module.out_features
        return offsets

    def _initialise(self, seed: int) -> None:
        """A uniform as PEFT's default (kaiming_uniform with a = sqrt(5): bound 1 / sqrt(in)), B zero."""
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules:
            bound = module.in_features**-0.5
            self.a(module, self.values).uniform_(-bound, bound, generator=generator)

    def a(self, module: Module, of: torch.Tensor) -> torch.Tensor:
        """View (r, in) of A in the flat vector `of`."""
        start = self._offsets[module.name]
        return of[start : start + self.r * module.in_features].view(self.r, module.in_features)

    def b(self, module: Module, of: torch.Tensor) -> torch.Tensor:
        """View (out, r) of B in the flat vector `of`."""
        start = self._offsets[module.name + "#b"]
        return of[start : start + self.r * module.out_features].view(module.out_features, self.r)

    def stacked_a(self, modules: list[Module], of: torch.Tensor) -> torch.Tensor:
        """View (len(modules) * r, in) of neighbouring modules' A."""
        start, width = self._offsets[modules[0].name], modules[0].in_features
        rows = len(modules) * self.r
        return of[start : start + rows * width].view(rows, width)

    def refresh(self) -> None:
        """Bring the compute copy up to date after the optimiser's step."""
        if self.compute is not self.values:
            self.compute.copy_(self.values)


@dataclass(frozen=True)
class Member:
    """An adapted linear's output columns `start:stop` within its group."""

    module: Module
    start: int
    stop: int


class LinearGroup:
    """Frozen rows plus the adapters of those members that are targets."""

    def __init__(
        self,
        weight: WeightGroup,
        members: list[Member],
        parameters: AdapterParameters,
        bias: torch.Tensor | None,
    ) -> None:
        self.weight, self.members, self.parameters, self.bias = weight, members, parameters, bias
        self._modules = [member.module for member in members]
        self.enabled = True

    def forward(
        self, x: torch.Tensor, residual: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """x (T, in) -> z (T, out), u (T, members * r) or None; `residual` (T, out) is added to z."""
        dense = self.weight.dense().T
        if residual is not None:
            z = torch.addmm(residual, x, dense)
        elif self.bias is not None:
            z = torch.addmm(self.bias, x, dense)
        else:
            z = x @ dense
        if not self.members or not self.enabled:
            return z, None
        parameters, r = self.parameters, self.parameters.r
        u = x @ parameters.stacked_a(self._modules, parameters.compute).T
        for i, member in enumerate(self.members):
            b = parameters.b(member.module, parameters.compute)
            z[:, member.start : member.stop].addmm_(u[:, i * r : (i + 1) * r], b.T, alpha=parameters.scale)
        return z, u

    def backward(
        self, dz: torch.Tensor, x: torch.Tensor, u: torch.Tensor | None, need_dx: bool = True
    ) -> torch.Tensor | None:
        """Add to the adapters' gradients and return dx (T, in), or None where nobody needs it."""
        dx = dz @ self.weight.dense() if need_dx else None
        if u is None:
            return dx
        parameters, r = self.parameters, self.parameters.r
        v = torch.empty_like(u)
        for i, member in enumerate(self.members):
            columns, part = dz[:, member.start : member.stop], slice(i * r, (i + 1) * r)
            torch.mm(columns, parameters.b(member.module, parameters.compute), out=v[:, part])
            d_b = columns.T @ u[:, part]
            parameters.b(member.module, parameters.gradients).add_(d_b, alpha=parameters.scale)
        v.mul_(parameters.scale)
        parameters.stacked_a(self._modules, parameters.gradients).add_(v.T @ x)
        if dx is not None:
            dx.addmm_(v, parameters.stacked_a(self._modules, parameters.compute))
        return dx
