"""The AskBedrock step: checks that the run's model in Bedrock answers real dialogues, and says how to call it.

A custom model is asked through its deployment by Converse. An imported model is asked by Converse if Bedrock can
(GetImportedModel, instructSupported), else by InvokeModel in the form of OpenAI's chat API. Bedrock user guide, "Invoke your
imported model": no Converse for some types of models; models that were imported since 2025-11-11 take OpenAI's form.

An imported model that nobody has asked for a while is not in memory, and the first call that finds it so wakes it. The client
tries again by itself, and the state machine calls the function again, until the model answers.
"""

from __future__ import annotations

import json
import logging
import shlex
import time
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from pipeline import aws, samples
from pipeline.contracts.bedrock import AskBedrockEvent, BedrockAnswer

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

Api = Literal["Converse", "InvokeModel"]

NOT_READY = "ModelNotReadyException"
WAKE_MINUTES = 30
"""How long a model may take to answer. "The restoration time depends on the on-demand fleet size and the model size" (Bedrock
user guide, "Handling ModelNotReadyException"), and no page has a number."""
WAKE_WAIT_SECONDS = 30
WAKE_ATTEMPTS = 6
"""The calls of the client for one question. "The AWS SDK will automatically retry the operation up to 5 times" (service model,
ModelNotReadyException)."""


class BedrockSick(Exception):
    """The model in Bedrock does not answer correctly. The line has the error that Bedrock returned, and the remedy."""


@aws.handler(AskBedrockEvent)
def handler(event: AskBedrockEvent) -> BedrockAnswer:
    """Ask the model held-out dialogues: the turns before an answer, as the tuned model was evaluated.

    Raises:
        BedrockSick: the model does not answer correctly, or is not ready in time.
    """
    model, progress = event.model_id, event.progress
    since = progress.since if progress and progress.redrive == event.redrive else int(time.time())
    api, units = _abilities(model)
    # All questions must fit into the function's time.
    runtime = aws.client("bedrock-runtime", read_timeout=40, retries={"total_max_attempts": WAKE_ATTEMPTS})
    asked, answers = samples.questions(event.evaluation), []
    longest = min(samples.MAX_TOKENS, event.max_tokens)
    for question in asked:
        try:
            answers.append(_ask(runtime, api, model, question.prompt, longest))
        except (ClientError, BotoCoreError, ValueError, LookupError, TypeError, AttributeError) as error:
            if isinstance(error, ClientError) and aws.code(error) == NOT_READY:
                return _waking(model, api, units, since, event.redrive)
            if isinstance(error, (ClientError, BotoCoreError)) and _is_elsewhere(error):
                raise
            # The line has only the error's code, because a message about the request may hold the dialogue.
            failure = aws.code(error) if isinstance(error, ClientError) else type(error).__name__
            raise BedrockSick(
                f"{model} did not answer a held-out dialogue by {api} ({failure}); redrive the execution to ask again"
            ) from None
    if not any(answers):
        raise BedrockSick(
            f"{model} gave empty answers to {len(answers)} held-out dialogues; redrive the execution to ask again"
        )
    samples.write(event.samples, asked, answers)
    call = command(api, runtime.meta.region_name, model, event.instruction, event.max_tokens)
    return BedrockAnswer(
        "passed", f"answers by {api}", 0, model, api, call, [event.samples], units, since, event.redrive
    )


def _abilities(model: str) -> tuple[Api, int | None]:
    """Return the operation that the model understands, and the units of a copy of it if it is an imported model."""
    if ":imported-model/" not in model:
        return "Converse", None
    found = aws.client("bedrock").get_imported_model(modelIdentifier=model)
    units = found.get("customModelUnits", {}).get("customModelUnitsPerModelCopy")
    return "Converse" if found.get("instructSupported") else "InvokeModel", units


def _waking(model: str, api: Api, units: int | None, since: int, redrive: int) -> BedrockAnswer:
    age = time.time() - since
    if age > WAKE_MINUTES * 60:
        raise BedrockSick(f"{model} is not ready after {WAKE_MINUTES} minutes; redrive the execution to wait again")
    progress = f"waking the model for {age / 60:.0f} min"
    return BedrockAnswer("waking", progress, WAKE_WAIT_SECONDS, model, api, units=units, since=since, redrive=redrive)


def _is_elsewhere(error: ClientError | BotoCoreError) -> bool:
    """Return whether AWS itself was busy, or does not know a permission yet. A model that takes too long is no such case."""
    if isinstance(error, ClientError) and aws.code(error) == "AccessDeniedException":
        return True
    return aws.is_busy(error) and not isinstance(error, ReadTimeoutError)


def request(api: Api, messages: list[dict[str, str]], max_tokens: int) -> dict[str, Any]:
    """Return the parameters of a call without the model: those of Converse, or the document of InvokeModel's body."""
    if api == "InvokeModel":
        return {"messages": messages, "max_tokens": max_tokens, "temperature": 0}
    system = [{"text": message["content"]} for message in messages if message["role"] == "system"]
    turns = [
        {"role": message["role"], "content": [{"text": message["content"]}]}
        for message in messages
        if message["role"] != "system"
    ]
    return {
        **({"system": system} if system else {}),
        "messages": turns,
        "inferenceConfig": {"maxTokens": max_tokens, "temperature": 0},
    }


def _ask(runtime: Any, api: Api, model: str, messages: list[dict[str, str]], longest: int) -> str:
    asked = request(api, messages, longest)
    if api == "Converse":
        content = runtime.converse(modelId=model, **asked)["output"]["message"]["content"]
        text: str = "".join(block.get("text", "") for block in content)
        return text.strip()
    body = json.dumps(asked)
    answer = runtime.invoke_model(modelId=model, contentType="application/json", accept="application/json", body=body)
    text = json.loads(answer["body"].read())["choices"][0]["message"]["content"]
    return text.strip()


def command(api: Api, region: str, model: str, instruction: str | None, max_tokens: int) -> str:
    """Return a command of the AWS CLI that asks the model as it was evaluated."""
    system = [{"role": "system", "content": instruction}] if instruction is not None else []
    asked = request(api, [*system, {"role": "user", "content": "YOUR TEXT"}], max_tokens)
    where = f"--region {region} --model-id {model}"
    if api == "InvokeModel":
        body = shlex.quote(json.dumps(asked, ensure_ascii=False))
        form = "--content-type application/json --cli-binary-format raw-in-base64-out"
        return f"aws bedrock-runtime invoke-model {where} {form} --body {body} answer.json"
    options = {"system": "system", "messages": "messages", "inference-config": "inferenceConfig"}
    given = (
        f"--{option} {shlex.quote(json.dumps(asked[name], ensure_ascii=False))}"
        for option, name in options.items()
        if name in asked
    )
    return f"aws bedrock-runtime converse {where} {' '.join(given)}"
