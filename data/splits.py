"""Stratified, seeded, disjoint index sets. Every function returns sorted int64 index tensors."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from data.errors import DataError

# scikit-learn is imported where it is used: loading it takes seconds that --help needn't.
TRIES = 200  # orders of the writers, of which the most even cut counts


def split(
    labels: torch.Tensor, val_fraction: float, seed: int, writers: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Split (N,) labels into (training, validation) indices, stratified by class.

    val_fraction: in [0, 1); 0 gives no validation indices. Of a small set it is more, one of every class.
    writers: (N,), who wrote each image. Then nobody is in both parts, and the shares of the classes are as
    even as in the best of TRIES orders of the writers. Raises DataError for another fraction, or when a class
    is too small to be in both parts.
    """
    if not 0 <= val_fraction < 1:
        raise DataError(f"the validation fraction must be in [0, 1), not {val_fraction}")
    everything = np.arange(len(labels))
    if val_fraction == 0:
        return _indices(everything), _indices(everything[:0])
    from sklearn.model_selection import train_test_split

    classes = labels.cpu().numpy()
    if writers is not None:
        held = _hold_out_writers(classes, writers.cpu().numpy(), val_fraction, seed)
        return _indices(everything[~held]), _indices(everything[held])
    values, counts = np.unique(classes, return_counts=True)
    small = math.ceil(val_fraction * len(labels)) < len(values)
    if counts.min() < 2 or len(labels) < 2 * len(values) or (1 - val_fraction) * len(labels) < len(values):
        least = f"class {values[counts.argmin()]} has {counts.min()} of them"
        raise DataError(f"cannot split {len(labels)} images of {len(values)} classes in two: {least}")
    part = len(values) if small else val_fraction
    train, val = train_test_split(everything, test_size=part, stratify=classes, random_state=seed)
    return _indices(train), _indices(val)


def _hold_out_writers(classes, writers, val_fraction, seed):
    """Return (N,) bool: the images of the writers to validate on, see `split`."""
    names, rows = np.unique(writers, return_inverse=True)
    values, columns = np.unique(classes, return_inverse=True)
    counts = np.zeros((len(names), len(values)))
    np.add.at(counts, (rows, columns), 1)
    target, rng = val_fraction * counts.sum(0), np.random.default_rng(seed)
    least, held = 1.0, rows[:0]
    for order in (rng.permutation(len(names)) for _ in range(TRIES)):
        sums = counts[order].cumsum(0)
        uneven = np.abs(sums / target - 1).max(1) + (sums == counts.sum(0)).any(1)
        if uneven.min() < least:
            least, held = uneven.min(), order[: uneven.argmin() + 1]
    if not len(held):
        raise DataError(f"no choice among {len(names)} writers leaves images of every class in both parts")
    return np.isin(rows, held)


def folds(labels: torch.Tensor, k: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the k (training, validation) indices of stratified cross-validation; DataError for a large k."""
    from sklearn.model_selection import StratifiedKFold

    classes = labels.cpu().numpy()
    if k > (smallest := np.unique(classes, return_counts=True)[1].min()):
        raise DataError(f"cannot split {len(labels)} images: {k} folds of a class of {smallest} images")
    cuts = StratifiedKFold(k, shuffle=True, random_state=seed).split(classes, classes)
    return [(_indices(train), _indices(val)) for train, val in cuts]


def few_labels(labels: torch.Tensor, per_class: int, seed: int) -> torch.Tensor:
    """Sample the indices of `per_class` examples of every class; DataError when one has fewer."""
    rng = np.random.default_rng(seed)
    classes = labels.cpu().numpy()
    sampled = []
    for value in np.unique(classes):
        members = np.flatnonzero(classes == value)
        if per_class < 1 or per_class > len(members):
            raise DataError(
                f"labels per class must be from 1 to {len(members)} (class {value} has no more), "
                f"not {per_class}"
            )
        sampled.append(rng.choice(members, per_class, replace=False))
    return _indices(np.concatenate(sampled))


def of_classes(labels: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    """Return the indices of the labels (N,) in `classes`; DataError for one twice or without an example."""
    if len(set(classes)) != len(classes) or not classes:
        raise DataError(f"expected one or more different classes, not {list(classes)}")
    known = set(labels.unique().tolist())
    if missing := [value for value in classes if value not in known]:
        raise DataError(f"no example of class {missing[0]}; the classes are {sorted(known)}")
    return torch.isin(labels.cpu(), torch.tensor(list(classes))).nonzero().squeeze(1)


def bootstrap(indices: torch.Tensor, seed: int) -> torch.Tensor:
    """Sample as many indices as there are, with replacement (Breiman, 1996): about 63 % appear."""
    return _indices(np.random.default_rng(seed).choice(indices.numpy(), len(indices)))


def _indices(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.sort(array))
