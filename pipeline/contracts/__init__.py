"""What passes between the packages and between the steps of a run, each with its type.

Infra hands the stack's facts to Plan, Plan's result is the state machine's variable `$plan`, and each step gets an event out of
that and answers. A function's event is parsed once, at its door (`pipeline.aws.handler`), where a value of another type, a
missing one and an unknown one end the call. tests/infra/test_contracts.py resolves every path of the definition against these
types. A part of a request in AWS's own shape is an `AwsRequest`, which tests check against botocore. A row of the
training files is a `training.messages.Messages`, as the training job gets that folder alone.

Named tuples, as the functions' other values: a frozen dataclass takes at least four times as long to make when a function
starts, and pydantic is not in data prep's package. Each package imports the modules that it needs.
"""
