"""The types of the values that pass between the packages and between the steps of a run.

Infra hands the stack's facts to Plan. Plan's result is the state machine's variable `$plan`. Each step gets an event that is
made from `$plan`, and returns an answer. `pipeline.aws.handler` parses a function's event once, at the start of the call. The
call ends with an error if a value has another type, is missing or is unknown. tests/infra/test_contracts.py resolves every
path of the definition against these types. A part of a request in AWS's own shape is an `AwsRequest`, which tests check
against botocore. A row of the training files is a `training.messages.Messages`, because the training job gets that folder
alone.

The types are named tuples. The class of a frozen dataclass takes several times as long to make when a function starts, and
pydantic is not in data prep's package. Each package imports only the modules that it needs.
"""
