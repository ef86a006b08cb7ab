"""What a run is, in plain Python: settings, catalogue, names, cost and the small Lambda steps."""
