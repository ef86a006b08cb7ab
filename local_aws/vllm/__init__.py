"""The vLLM image of an endpoint on this machine: the container's contract on a CPU."""
