"""Benchmarks of this project against the usual ways, side by side in one run. They report figures and set no limit."""
