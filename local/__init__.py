"""The driver of `make local`: it starts local AWS, deploys, executes, asks the endpoint, destroys and lists what is left."""
