"""A small network that reads a place, and how small networks learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

from geotree.place.models import PlaceModel, vectors

_STEPS = 1000  # least that a network is trained
_BATCH = 256


def learn(inputs: int, outputs: int, loss: Callable, *, steps: int,
          seed: int):
    """Train a network of two hidden layers; torch's random state stays.

    Parameters
    ----------
    inputs, outputs : int
        Width of either end.
    loss : callable
        From the network to the loss of a new batch.

    Returns
    -------
    callable
        From (N, inputs) float to (N, outputs) logits, both arrays.
    """
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(inputs, 128), nn.GELU(), nn.Dropout(0.2),
            nn.Linear(128, 128), nn.GELU(), nn.Dropout(0.2),
            nn.Linear(128, outputs))
        optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 3e-3, total_steps=steps)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(net).backward()
            optimizer.step()
            schedule.step()
    net.eval()

    def answer(values):
        with torch.no_grad():
            return net(torch.as_tensor(values, dtype=torch.float32)).numpy()

    return answer


class Network(PlaceModel):
    """A network on sines and cosines, after SINR.

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

        super().__init__(table)
        points = vectors(table)
        raw = self._angles(points)
        self.centre, self.spread = raw.mean(0), raw.std(0) + 1e-6
        x = torch.as_tensor(self._inputs(points), dtype=torch.float32)
        y = torch.as_tensor(self.labels)
        steps = max(epochs * -(-len(x) // _BATCH), _STEPS)

        def loss(net):
            rows = torch.randint(len(x), (min(_BATCH, len(x)),))
            return torch.nn.functional.cross_entropy(
                net(x[rows]), y[rows], label_smoothing=0.05)

        self.answer = learn(6, len(self.species), loss, steps=steps,
                            seed=seed)
        labels = self.labels[:10_000]
        odds = self.odds(points[:10_000])[np.arange(len(labels)), labels]
        gain = np.log(odds).mean() - np.log(self.frequency[labels]).mean()
        if len(self.species) > 1 and gain < 0.01:
            warnings.warn(
                f"after {steps} steps the network knows no more of the "
                f"{len(x)} records than how frequent each of the "
                f"{len(self.species)} species is: it is undertrained (more "
                "epochs?), or their places tell nothing.", stacklevel=2)

    def _inputs(self, points) -> np.ndarray:
        return (self._angles(points) - self.centre) / self.spread

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
        from scipy.special import softmax

        return softmax(self.answer(self._inputs(points)), axis=1)
