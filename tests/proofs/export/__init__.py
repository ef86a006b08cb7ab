"""The proof that the exported folder is read alike by everything that may read it: `python -m tests.proofs.export`."""
