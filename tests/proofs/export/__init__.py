"""The proof that all programs which may read the exported folder read it alike: `python -m tests.proofs.export`."""
