"""The README and the pages of results/, written from committed results."""
