"""AWS on this machine: MiniStack with IAM and with the services that MiniStack lacks. It does not import the product."""
