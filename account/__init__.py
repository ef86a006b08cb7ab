"""The driver of `make test-account`: one whole life of the stack in an AWS account, with all that AWS answers recorded."""
