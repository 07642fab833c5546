"""Where results are kept: run folders, repeats, sweeps, and how they are read again."""
