"""What runs the experiments.

Imports run one way: report -> plots, evaluation -> training -> runs -> metrics. `cli` serves the scripts;
`errors` and `distributed` serve everybody.
"""
