"""What all scripts share: command line, training loop, run folders, figures, ranks of torchrun."""
