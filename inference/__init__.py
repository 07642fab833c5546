"""Use what was trained: `load_predictor().predict("seven.png")` answers for each digit."""

import importlib.util
from pathlib import Path

try:
    from inference.predictor import Answer, Predictor, load_predictor
except ImportError:
    for name in ("data", "evaluation", "models", "utils"):
        place = getattr(importlib.util.find_spec(name), "origin", None) or __file__
        if not Path(place).is_relative_to(Path(__file__).parents[1]):
            way_out = "rename it, or use the ONNX file of predict.py --export, which needs no other package"
            raise ImportError(f"{place} is in the way of this project's package {name}: {way_out}") from None
    raise

__all__ = ["Answer", "Predictor", "load_predictor"]
