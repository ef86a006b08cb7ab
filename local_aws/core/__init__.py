"""The code that the services share and that needs no MiniStack: IAM's checks, shapes, faults, clients, processes."""
