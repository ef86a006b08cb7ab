"""AWS on this machine: MiniStack with IAM enforced, and what MiniStack lacks. It imports none of the product's code."""
