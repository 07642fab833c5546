"""How networks are trained: recipes, the fit loop, optimisers, members of an ensemble."""
