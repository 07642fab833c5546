"""Every figure: a function of data that writes one PNG."""
