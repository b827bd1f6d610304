"""The Nested U-Net and the Attention U-Net in plain PyTorch, and a training loop.

Layer by layer they are the networks of `models/`.

Layers carry the names that they have in `models/`, so that weights can be brought over and the outputs compared.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found]
from numpy.typing import NDArray
from torch import nn  # type: ignore[import-not-found]
from torch.nn import functional  # type: ignore[import-not-found]

BN_EPSILON = 1e-3
BN_MOMENTUM = 0.1
"""PyTorch's share of the new; Keras names the share of the old."""


class Network(nn.Module):  # type: ignore[misc]
    """Layers by name, and the pieces that both networks share."""

    def __init__(self) -> None:
        super().__init__()
        self.named = nn.ModuleDict()

    def add_block(self, name: str, channels: int, filters: int) -> None:
        for index, width in ((1, channels), (2, filters)):
            self.named[f"{name}_conv{index}"] = nn.Conv2d(width, filters, 3, padding=1, bias=False)
            self.named[f"{name}_{index}_norm"] = nn.BatchNorm2d(filters, eps=BN_EPSILON, momentum=BN_MOMENTUM)

    def block(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        for index in (1, 2):
            tensor = self.named[f"{name}_{index}_norm"](self.named[f"{name}_conv{index}"](tensor))
            tensor = functional.relu(tensor, inplace=True)
        return tensor


class NestedUNet(Network):
    """UNet++ with deep supervision; gives the logits of its heads `(batch, heads, height, width)`."""

    def __init__(self, channels: int, filters: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        for level in range(depth + 1):
            width = filters * 2**level
            self.add_block(f"x_{level}_0", width // 2 if level else channels, width)
        for column in range(1, depth + 1):
            for level in range(depth - column + 1):
                width = filters * 2**level
                self.named[f"x_{level}_{column}_up"] = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
                self.add_block(f"x_{level}_{column}", (column + 1) * width, width)
            self.named[f"head_{column}_conv"] = nn.Conv2d(filters, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        nodes: dict[tuple[int, int], torch.Tensor] = {}
        tensor = image
        for level in range(self.depth + 1):
            tensor = self.block(functional.max_pool2d(tensor, 2) if level else tensor, f"x_{level}_0")
            nodes[level, 0] = tensor
        for column in range(1, self.depth + 1):
            for level in range(self.depth - column + 1):
                name = f"x_{level}_{column}"
                raised = self.named[f"{name}_up"](nodes[level + 1, column - 1])
                joined = torch.cat([*(nodes[level, earlier] for earlier in range(column)), raised], dim=1)
                nodes[level, column] = self.block(joined, name)
        columns = range(1, self.depth + 1)
        return torch.cat([self.named[f"head_{column}_conv"](nodes[0, column]) for column in columns], dim=1)


class AttentionUNet(Network):
    """Attention U-Net; gives the logits of its head `(batch, 1, height, width)`."""

    def __init__(self, channels: int, filters: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        for level in range(depth + 1):
            width = filters * 2**level
            self.add_block(f"encoder_{level}", width // 2 if level else channels, width)
        for level in range(depth):
            width = filters * 2**level
            self.named[f"gate_{level}_theta"] = nn.Conv2d(width, width, 2, stride=2, bias=False)
            self.named[f"gate_{level}_phi"] = nn.Conv2d(2 * width, width, 1)
            self.named[f"gate_{level}_psi"] = nn.Conv2d(width, 1, 1)
            self.named[f"up_{level}"] = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
            self.add_block(f"decoder_{level}", 2 * width, width)
        self.named["head_conv"] = nn.Conv2d(filters, 1, 1)

    def gated(self, skip: torch.Tensor, gating: torch.Tensor, level: int) -> torch.Tensor:
        # At sizes that divide by 2^depth, the gating signal has the size of theta already.
        theta, phi = self.named[f"gate_{level}_theta"](skip), self.named[f"gate_{level}_phi"](gating)
        coefficients = torch.sigmoid(self.named[f"gate_{level}_psi"](functional.relu(theta + phi)))
        return skip * functional.interpolate(coefficients, size=skip.shape[2:], mode="bilinear")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        skips = []
        tensor = image
        for level in range(self.depth):
            tensor = self.block(tensor, f"encoder_{level}")
            skips.append(tensor)
            tensor = functional.max_pool2d(tensor, 2)
        tensor = self.block(tensor, f"encoder_{self.depth}")
        for level in reversed(range(self.depth)):
            gated = self.gated(skips[level], tensor, level)
            tensor = self.block(torch.cat([gated, self.named[f"up_{level}"](tensor)], dim=1), f"decoder_{level}")
        return self.named["head_conv"](tensor)  # type: ignore[no-any-return]


TWINS: dict[str, type[NestedUNet] | type[AttentionUNet]] = {"nested_unet": NestedUNet, "attention_unet": AttentionUNet}


def dice_bce(truth: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Batch Dice plus cross-entropy on each head, the mean of the heads."""
    probability = torch.sigmoid(logits)
    hits, seen = (truth * probability).sum((0, 2, 3)), probability.sum((0, 2, 3))
    dice = 1.0 - (2.0 * hits + 1.0) / (truth.sum() + seen + 1.0)
    return dice.mean() + functional.binary_cross_entropy_with_logits(logits, truth.expand_as(logits))


def take_weights(twin: Network, network: Any) -> None:
    """Bring the weights of a Keras network over, by the names of its layers."""
    with torch.no_grad():
        for name, layer in twin.named.items():
            arrays = network.get_layer(name).get_weights()
            targets = [layer.weight] + ([layer.bias] if layer.bias is not None else [])
            if isinstance(layer, nn.BatchNorm2d):
                targets += [layer.running_mean, layer.running_var]
            for target, array in zip(targets, arrays, strict=True):
                # (height, width, in, out) → (out, in, height, width); a transposed convolution has in and out swapped.
                target.copy_(torch.from_numpy(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array))


def train_steps(
    architecture: str, images: NDArray[np.float32], masks: NDArray[np.float32], filters: int, depth: int, threads: int
) -> Iterator[tuple[float, float, float, int]]:
    """Train on one batch for ever and yield the figures of each step.

    They are its wall and CPU seconds, the loss, and the parameters.

    Args:
        architecture: a name in `TWINS`.
        images: `(batch, height, width, channels)`.
        masks: `(batch, height, width, 1)`.
        filters: of the first level.
        depth: number of poolings.
        threads: of the processor.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = TWINS[architecture](images.shape[-1], filters, depth).to(memory_format=torch.channels_last)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    parameters = sum(weight.numel() for weight in network.parameters())
    # A view of (batch, height, width, channels) is a channels-last tensor already.
    image, truth = (torch.from_numpy(array).permute(0, 3, 1, 2) for array in (images, masks))
    while True:
        wall, cpu = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss = dice_bce(truth, network(image))
        loss.backward()
        optimizer.step()
        value = loss.item()
        yield time.perf_counter() - wall, time.process_time() - cpu, value, parameters
