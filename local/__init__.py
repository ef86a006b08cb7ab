"""What `make local` runs: it starts local AWS, deploys, executes, asks the endpoint, destroys and lists what is left."""
