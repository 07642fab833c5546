"""README.md and the pages of results/, written from the committed results."""
