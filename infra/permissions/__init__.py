"""The policies of the people around a stack: who deploys it, and who operates it. `python -m infra.permissions` writes them."""
