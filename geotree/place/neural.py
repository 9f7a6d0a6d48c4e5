"""A small network that reads a place."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from geotree.place.models import PlaceModel, vectors

_STEPS = 1000  # least that a network is trained


class Network(PlaceModel):
    """A residual network on sines and cosines, after SINR.

    Parameters
    ----------
    table : DataFrame
    epochs : int
        Passes over the records; more where they would come to fewer than
        1,000 steps.
    seed : int
        Of weights, batches and dropout.

    Warns
    -----
    UserWarning
        The network has learnt no more than the frequencies.

    Notes
    -----
    Cole et al. (2023). Theirs answers "present here?" for each species; a
    softmax, as here, answers "which one?", the question of this benchmark.
    Inputs are scaled to the region of the records.
    """

    def __init__(self, table: pd.DataFrame, *, epochs: int = 40,
                 seed: int = 0) -> None:
        import torch
        from torch import nn

        super().__init__(table)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = nn.Sequential(
                nn.Linear(6, 128), *(_residual(128) for _ in range(3)),
                nn.Linear(128, len(self.species)))
            points = vectors(table)
            raw = self._angles(points)
            self.centre, self.spread = raw.mean(0), raw.std(0) + 1e-6
            x, y = self._inputs(points), torch.as_tensor(self.labels)
            optimizer = torch.optim.AdamW(
                self.net.parameters(), lr=2e-3, weight_decay=0.01)
            batches = -(-len(x) // 256)
            epochs = max(epochs, -(-_STEPS // batches))
            steps = batches * epochs
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
                optimizer, steps)
            for _ in range(epochs):
                for rows in torch.randperm(len(x)).split(256):
                    loss = nn.functional.cross_entropy(
                        self.net(x[rows]), y[rows], label_smoothing=0.05)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
            self.net.eval()
        odds = self.odds(points[:10_000])
        right = odds[np.arange(len(odds)), self.labels[:10_000]]
        usual = self.frequency[self.labels[:10_000]]
        if len(self.species) > 1 and np.log(right).mean() < np.log(
                usual).mean() + 0.01:
            warnings.warn(
                f"after {steps} steps the network knows no more of the "
                f"{len(x)} records than how frequent each of the "
                f"{len(self.species)} species is: it is undertrained (more "
                "epochs?), or their places tell nothing.", stacklevel=2)

    def _inputs(self, points):
        import torch

        return torch.as_tensor((self._angles(points) - self.centre)
                               / self.spread, dtype=torch.float32)

    @staticmethod
    def _angles(points) -> np.ndarray:
        """Sines and cosines of both angles, and the height: (N, 6)."""
        lat = np.arcsin(points[:, 2].clip(-1, 1))
        lon = np.arctan2(points[:, 1], points[:, 0])
        values = [f(angle) for angle in (lon, 2 * lat)
                  for f in (np.sin, np.cos)]
        values += [np.sin(lat), np.cos(lat)]
        return np.stack(values, axis=1)

    def odds(self, points):
        import torch

        with torch.no_grad():
            return self.net(self._inputs(points)).softmax(1).numpy()


def _residual(width: int):
    """x + f(x), where f is two layers with dropout."""
    from torch import nn

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(),
                nn.Dropout(0.2), nn.Linear(width, width))

        def forward(self, x):
            return x + self.inner(x)

    return Residual()
