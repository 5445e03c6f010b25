"""PyTorch with stacked adapters as a contestant: batching without JAX.

K adapters train at once over one frozen model: at each step the candidates' sequences are the rows
of one batch, padded to the longest, and each query and value projection adds a batched product
x[K, T, in] @ a[K, in, R] @ b[K, R, out]. Clipping and AdamW are per candidate, written with the
leading axis K.
"""

import time

import numpy as np
import torch

from seal_jax.doctor import models


def open_worker(spec: models.Spec) -> "Stacked":
    return Stacked(spec)


class _StackedProjection(torch.nn.Module):
    """A frozen projection plus one low-rank change for each row."""

    def __init__(self, base: torch.nn.Linear, scale: float):
        super().__init__()
        self.base, self.scale = base, scale
        self.a = self.b = None  # [K, in, R] and [K, R, out]

    def forward(self, x):
        change = torch.bmm(torch.bmm(x.to(self.a.dtype), self.a), self.b)
        return self.base(x) + (change * self.scale).to(x.dtype)


class Stacked:
    """A model whose query and value projections hold K adapters."""

    def __init__(self, spec: models.Spec):
        self.spec = spec
        self.model = models.load_torch(spec)
        self.model.requires_grad_(False)
        self.device = self.model.device
        self._projections = {target: [] for target in models.TARGETS}
        for layer in self.model.model.layers:
            for target, found in self._projections.items():
                wrapped = _StackedProjection(
                    getattr(layer.self_attn, target), spec.alpha / spec.rank
                )
                setattr(layer.self_attn, target, wrapped)
                found.append(wrapped)
        self._shapes = {
            target: (len(found), found[0].base.in_features, found[0].base.out_features)
            for target, found in self._projections.items()
        }

    def _set_adapters(self, count: int) -> list[torch.Tensor]:
        """Fresh adapters, the same as every contestant's; returns their leaves [K, ...]."""
        each = [
            models.factors(self._shapes, self.spec, seed, trained=False) for seed in range(count)
        ]
        leaves = []
        for target, found in self._projections.items():
            for layer, projection in enumerate(found):
                projection.a, projection.b = (
                    torch.tensor(
                        np.stack([factors[target][which][layer] for factors in each]),
                        device=self.device,
                        requires_grad=True,
                    )
                    for which in (0, 1)
                )
                leaves += [projection.a, projection.b]
        return leaves

    def update(self, steps) -> dict:
        """Trains all candidates at once; `steps` as for PEFT."""
        count = len(steps[0])
        leaves = self._set_adapters(count)
        totals_K = torch.tensor([sum(bool(step[k]) for step in steps) for k in range(count)])
        totals_K = totals_K.to(self.device)
        optimizer = _AdamW(leaves, self.spec.learning_rate, totals_K)
        last_K = torch.zeros(count, device=self.device)
        start = time.perf_counter()
        for step in steps:
            tokens, real = self._batch(step)
            logits = self.model(input_ids=tokens, use_cache=False).logits
            losses = torch.nn.functional.cross_entropy(
                logits[:, :-1].float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
            ).view(count, -1)
            targets = real[:, 1:].float()
            losses_K = (losses * targets).sum(1) / targets.sum(1).clamp(min=1)
            gradients = torch.autograd.grad(losses_K.sum(), leaves)
            active_K = real[:, 0]
            optimizer.step(gradients, active_K)
            last_K = torch.where(active_K, losses_K.detach(), last_K)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return {"seconds": time.perf_counter() - start, "losses": last_K.tolist()}

    def _batch(self, step):
        """Rows [K, T] padded to the longest, and which tokens are real."""
        longest = max(map(len, step))
        tokens = torch.zeros((len(step), longest), dtype=torch.long)
        real = torch.zeros_like(tokens, dtype=torch.bool)
        for row, sequence in enumerate(step):
            tokens[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
            real[row, : len(sequence)] = True
        return tokens.to(self.device), real.to(self.device)


class _AdamW:
    """AdamW without weight decay on leaves [K, ...], clipped and decayed per candidate."""

    def __init__(self, leaves, learning_rate: float, totals_K):
        self._leaves, self._rate, self._totals_K = leaves, learning_rate, totals_K
        self._first = [torch.zeros_like(leaf) for leaf in leaves]
        self._second = [torch.zeros_like(leaf) for leaf in leaves]
        self._taken_K = torch.zeros_like(totals_K)

    @torch.no_grad()
    def step(self, gradients, active_K) -> None:
        squares = [gradient.flatten(1).square().sum(1) for gradient in gradients]
        norm_K = torch.stack(squares).sum(0).sqrt()
        clip_K = (1.0 / (norm_K + 1e-6)).clamp(max=1.0)
        rate_K = self._rate * (1 - self._taken_K / self._totals_K.clamp(min=1))
        rate_K = torch.where(active_K, rate_K, 0.0)[:, None, None]
        count_K = (self._taken_K + 1)[:, None, None]
        kept = active_K[:, None, None]
        for leaf, gradient, first, second in zip(
            self._leaves, gradients, self._first, self._second, strict=True
        ):
            gradient = gradient * clip_K[:, None, None]
            first.copy_(torch.where(kept, 0.9 * first + 0.1 * gradient, first))
            second.copy_(torch.where(kept, 0.999 * second + 0.001 * gradient**2, second))
            spread = (second / (1 - 0.999**count_K)).sqrt() + 1e-8
            leaf -= rate_K * first / (1 - 0.9**count_K) / spread
        self._taken_K += active_K
