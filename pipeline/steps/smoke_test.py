"""The SmokeTest step: checks that the endpoint answers real dialogues, before the run counts as successful.

It also says how the endpoint is called, because the rows' own system message is known only after data prep.
"""

from __future__ import annotations

import json
import logging

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from pipeline import aws, openai_route, samples, schedules
from pipeline.contracts.events import SmokeTested, SmokeTestEvent
from pipeline.endpoints import describe_endpoint
from pipeline.names import PASSED_TAG

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)


class EndpointSick(Exception):
    """The endpoint is in service, but does not answer correctly. The line has the error that it returned."""


@aws.handler(SmokeTestEvent)
def handler(event: SmokeTestEvent) -> SmokeTested:
    """Ask the endpoint held-out dialogues: the turns before an answer, as the model was evaluated.

    If the config passes, the endpoint gets its name as a tag. `pipeline.steps.cleanup` goes back to that config after a bad
    end. From then on, a schedule looks for use of the endpoint.

    Returns:
        The phase "passed", and how to call the endpoint. Or "superseded", if another run's config serves now. Or "redeploy",
        if a redrive finds that the endpoint no longer has the config.

    Raises:
        EndpointSick: the endpoint serves this config and does not answer correctly.
    """
    sagemaker = aws.client("sagemaker")
    name, config = event.endpoint, event.config
    endpoint = describe_endpoint(sagemaker, name)
    if endpoint["EndpointStatus"] != "InService" or endpoint["EndpointConfigName"] != config:
        again = event.redrive > event.deployed_at_redrive or endpoint["EndpointStatus"] == "Absent"
        return SmokeTested("redeploy" if again else "superseded", [])
    asked, answers = samples.questions(event.evaluation), []
    longest = min(samples.MAX_TOKENS, event.max_tokens)
    for question in asked:
        try:
            answers.append(_ask(name, question.prompt, longest))
        # The endpoint refuses, does not answer in time, or answers in another form.
        except (ClientError, BotoCoreError, ValueError, LookupError, TypeError, AttributeError) as error:
            if isinstance(error, (ClientError, BotoCoreError)) and _is_elsewhere(error):
                raise
            # The line has only the error's code, because the container's own message may hold the dialogue.
            failure = aws.code(error) if isinstance(error, ClientError) else type(error).__name__
            raise EndpointSick(
                f"endpoint {name} did not answer a held-out dialogue ({failure}; its log group is "
                f"/aws/sagemaker/Endpoints/{name}); redrive the execution to deploy again"
            ) from None
    if not any(answers):
        raise EndpointSick(
            f"endpoint {name} gave empty answers to {len(answers)} held-out dialogues; redrive the execution to deploy again"
        )
    samples.write(event.samples, asked, answers)
    passed = [{"Key": PASSED_TAG, "Value": config}]
    sagemaker.add_tags(ResourceArn=endpoint["EndpointArn"], Tags=passed)
    if event.idle:
        schedules.put(schedules.idle(name, config, event.run, event.again, event.idle))
    else:
        # The schedule of an earlier deployment finds another config than its own and would call for nothing.
        schedules.remove(schedules.idle_name(name))
    example = openai_route.example(event.formats)
    call = openai_route.how_to_call(name, event.caller_role, event.region, event.instruction, event.max_tokens, example)
    return SmokeTested("passed", [event.samples], call)


def _is_elsewhere(error: ClientError | BotoCoreError) -> bool:
    """Return whether AWS itself was busy. A container that does not answer within its 60 s is no such case."""
    return aws.is_busy(error) and not isinstance(error, ReadTimeoutError)


def _ask(endpoint: str, messages: list[dict[str, str]], longest: int) -> str:
    # The runtime answers within 60 s or not at all (SageMaker quotas). The client makes a single attempt, because all rows must
    # fit into the function's time.
    runtime = aws.client("sagemaker-runtime", read_timeout=70, retries={"total_max_attempts": 1})
    request = {"messages": messages, "max_tokens": longest, "temperature": 0}
    response = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=json.dumps(request))
    text: str = json.loads(response["Body"].read())["choices"][0]["message"]["content"]
    return text.strip()
