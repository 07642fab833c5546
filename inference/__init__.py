"""Use what was trained: `load_predictor().predict(Image.open("seven.png"))` answers for each digit."""

from inference.predictor import Answer, Predictor, ensemble_predictor, knn_predictor, load_predictor

__all__ = ["Answer", "Predictor", "ensemble_predictor", "knn_predictor", "load_predictor"]
