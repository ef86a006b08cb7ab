"""AWS on this machine: MiniStack with IAM enforced, plus what it lacks. Imports none of the product's code."""
