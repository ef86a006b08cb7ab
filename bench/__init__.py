"""Benchmarks of this project against the usual ways, side by side in one run. They report; they do not judge."""
