"""The parts of a run, in plain Python: settings, catalogue, names, cost and the small Lambda steps."""
