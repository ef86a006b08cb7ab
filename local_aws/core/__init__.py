"""What the services share and no part of MiniStack is needed for: IAM's questions, shapes, faults, clients, processes."""
