"""Pure functions of NumPy arrays: what a prediction is worth."""
