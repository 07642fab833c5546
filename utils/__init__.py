"""What runs it: command line, run folders, the fit loop, evaluation, plots, more than one process."""
