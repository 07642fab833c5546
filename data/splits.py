"""Stratified, seeded, disjoint index sets. Every function returns sorted int64 index tensors."""

import numpy as np
import torch

# scikit-learn is imported where it is used: loading it takes seconds that --help needn't.


def split(labels, val_fraction, seed):
    """Cut (N,) labels into (train, validation) indices, the share of each class kept.

    val_fraction: in [0, 1); 0 leaves the validation indices empty. Raises ValueError outside of that, or
    when a class is too small to be on both sides.
    """
    if not 0 <= val_fraction < 1:
        raise ValueError(f"the validation fraction must be in [0, 1), not {val_fraction}")
    everything = np.arange(len(labels))
    if val_fraction == 0:
        return _indices(everything), _indices(everything[:0])
    from sklearn.model_selection import train_test_split

    train, val = train_test_split(
        everything, test_size=val_fraction, stratify=labels.cpu().numpy(), random_state=seed
    )
    return _indices(train), _indices(val)


def folds(labels, k, seed):
    """Stratified k-fold: a list of k (train, validation) index pairs; the validations tile the set."""
    if k < 2:
        raise ValueError(f"cross-validation needs at least 2 folds, not {k}")
    from sklearn.model_selection import StratifiedKFold

    labels = labels.cpu().numpy()
    cuts = StratifiedKFold(k, shuffle=True, random_state=seed).split(labels, labels)
    return [(_indices(train), _indices(val)) for train, val in cuts]


def few_labels(labels, per_class, seed):
    """Indices of `per_class` examples of every class, drawn without replacement."""
    rng = np.random.default_rng(seed)
    labels = labels.cpu().numpy()
    drawn = []
    for value in np.unique(labels):
        members = np.flatnonzero(labels == value)
        if per_class < 1 or per_class > len(members):
            raise ValueError(
                f"labels per class must be from 1 to {len(members)} (class {value} has no more), "
                f"not {per_class}"
            )
        drawn.append(rng.choice(members, per_class, replace=False))
    return _indices(np.concatenate(drawn))


def bootstrap(indices, seed):
    """As many indices as there are, drawn from them with replacement (Breiman, 1996): 63 % are there."""
    drawn = np.random.default_rng(seed).choice(indices.numpy(), len(indices))
    return _indices(drawn)


def _indices(array):
    return torch.from_numpy(np.sort(array))
