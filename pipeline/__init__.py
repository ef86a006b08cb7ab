"""The parts of a run, in plain Python: settings, catalogue, names, money and the small Lambda steps."""
