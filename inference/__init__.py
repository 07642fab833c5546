"""Use what was trained: pictures to answers.

from inference import load_predictor
load_predictor().predict(Image.open("seven.png"))
"""

from inference.predictor import (
    Answer,
    Predictor,
    ensemble_predictor,
    knn_predictor,
    load_predictor,
)

__all__ = ["Answer", "Predictor", "ensemble_predictor", "knn_predictor", "load_predictor"]
