"""What the vLLM image of an endpoint is on this machine: the container's contract on a CPU."""
