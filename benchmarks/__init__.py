"""One module per benchmark; benchmark.py runs them."""
