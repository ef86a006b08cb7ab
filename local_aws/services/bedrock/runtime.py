"""Bedrock Runtime: Converse, ConverseStream, InvokeModel and InvokeModelWithResponseStream.

An imported model answers with its own words, from a copy of the program that is behind a SageMaker endpoint too. A
deployment of a custom model answers with the words of one small base model, and says in each answer that it is untuned.

Sources: API Reference of the four operations; User Guide "Invoke your imported model" and "Troubleshooting Amazon Bedrock
API Error Codes"; the texts of refusals from public issues (aws-samples/bedrock-access-gateway issue 99: Converse on an
imported model without support) and re:Post ("I get the ModelNotReadyException error"). PARITY.md lists the beliefs
that nobody could confirm.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_aws.core import eventstream, faults
from local_aws.core.registry import Response
from local_aws.core.shapes import ServiceError
from local_aws.services.apis import BEDROCK_RUNTIME
from local_aws.services.bedrock import forms
from local_aws.services.bedrock.controls import scripted
from local_aws.services.bedrock.copies import BASE, NotReadyError, RefusedByServerError
from local_aws.services.bedrock.forms import Form, Pieces, Reply
from local_aws.services.bedrock.models import find, in_profile

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from local_aws.core.registry import Request
    from local_aws.services.bedrock.account import Bedrock
    from local_aws.services.bedrock.models import FoundationModel

UNTUNED = "x-tuneway-untuned"
"""The header that names the model which answers for a deployment."""
_ARN = re.compile(r"arn:aws:bedrock:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):(?P<kind>[a-z-]+)/(?P<id>.+)")
_BAD_MODEL = "The provided model identifier is invalid."
_NOT_FOUND = "Could not resolve the model from the provided model identifier."
_NO_CONVERSE = "This action doesn't support the model that you provided. Try again with a supported text or chat model."
_NOT_READY = "Model is not ready for inference. Wait and try your request again."
_THROTTLED = "Too many requests, please wait before trying again."
_BROKEN = (OSError, http.client.HTTPException, ValueError)
_CUT_AFTER = 2  # The fault cut: the beginning of a stream and its first words.
_UNEXPECTED = "The system encountered an unexpected error during processing. Try your request again."


@dataclass(frozen=True)
class InvokedModel:
    """The model that answers a call.

    Attributes:
        arn: the model or deployment that the call names.
        key: the copy's name.
        model: the copy's model, a folder or a name in the Hub's cache.
        chat: whether the model has a chat template.
        instruct: whether Converse takes it.
        untuned: the name of the model that answers for a deployment or a foundation model.
        base_model: the id of a deployment's base model.
        foundation: the foundation model that is invoked.
    """

    arn: str
    key: str
    model: str
    chat: bool = True
    instruct: bool = True
    untuned: str = ""
    base_model: str = ""
    foundation: FoundationModel | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each answer."""
        return {UNTUNED: self.untuned} if self.untuned else {}

    @property
    def extra(self) -> dict[str, Any]:
        """The members that say in an answer of Converse that it is untuned."""
        if not self.untuned:
            return {}
        lacks = "has no foundation model" if self.foundation else "trains no custom model"
        text = f"local AWS {lacks}: these are the words of {self.untuned}"
        return {"additionalModelResponseFields": {"untuned": text}}


# Differs: An answer of a deployment | AWS: the custom model's words | Here: the words of a small base model (`base_model` of
#   `/_tuneway/bedrock`), said in the header `x-tuneway-untuned` and in Converse's `additionalModelResponseFields.untuned` |
#   Why: nothing is trained here
# Differs: A foundation model that is invoked | AWS: answers | Here: `AccessDeniedException` as of an account without access to
#   the model, but for the ids in `model_access` of `/_tuneway/bedrock`; then the words of the small base model, said as above,
#   or an answer of `scripted_answers` there | Why: there are no weights
# Differs: A throughput that is invoked | AWS: answers | Here: `ValidationException` | Why: there are no weights
# Unconfirmed: Converse of a foundation model that a Region has through an inference profile alone | Here:
#   `ValidationException`, "Invocation of model ID ... with on-demand throughput isn't supported. Retry your request with the ID
#   or ARN of an inference profile that contains this model." | Source: public issues
# Unconfirmed: Converse with more `maxTokens` than the model writes | Here: `ValidationException`, "The maximum tokens you
#   requested exceeds the model limit of N. Try again with a maximum tokens value that is lower than N." | Source: public issues
# Unconfirmed: Invoking an imported model or deployment that is not there | Here: `ResourceNotFoundException` (404), wording
#   our own; of another account or Region `ValidationException` | Source: the operations' errors
# Unconfirmed: Invoking a deployment that is Creating, Deleting or Failed | Here: `ValidationException`, wording our own |
#   Source: "When the deployment is active, you use this ARN"
# Unconfirmed: Invoking an imported model by its name | Here: refused, only its ARN is taken | Source: "You'll need the model
#   ARN to make inference calls"
def _target(bedrock: Bedrock, request: Request, model_id: str) -> InvokedModel:
    found, account = _ARN.fullmatch(model_id), bedrock.account(request)
    if found is None or found["kind"] == "inference-profile" or found["account"] != request.account:
        return _foundation_model(bedrock, request, model_id)
    if found["region"] != request.region:
        raise forms.invalid(_BAD_MODEL)
    if found["kind"] == "imported-model":
        model = account.imported_models.get(model_id)
        if model is None:
            raise ServiceError("ResourceNotFoundException", _NOT_FOUND, 404)
        instruct = bool(model.details["instructSupported"])
        return InvokedModel(model_id, model_id, str(model.folder), model.chat, instruct)
    if found["kind"] == "custom-model-deployment":
        deployment = account.resources.get(model_id)
        if deployment is None:
            raise ServiceError("ResourceNotFoundException", _NOT_FOUND, 404)
        moment = bedrock.clock()
        if (status := deployment.status(moment)) != "Active":
            raise forms.invalid(f"The custom model deployment is in the {status} status.")
        base = str(account.model(deployment.model_arn(moment))["baseModelArn"]).rsplit("/", 1)[-1]
        name = bedrock.base_model() or "no model of the Hub's cache"
        return InvokedModel(model_id, BASE + name, name, untuned=name, base_model=base)
    raise forms.invalid(_BAD_MODEL)


def _foundation_model(bedrock: Bedrock, request: Request, model_id: str) -> InvokedModel:
    profile = in_profile(model_id, request.region)
    model = profile or find(model_id, request.region)
    if model is None:
        raise forms.invalid(_BAD_MODEL)
    if model.id not in bedrock.controls.model_access.split(","):
        text = "You don't have access to the model with the specified model ID."
        raise ServiceError("AccessDeniedException", text, 403)
    if profile is None and "ON_DEMAND" not in model.inference_in(request.region):
        raise forms.invalid(
            f"Invocation of model ID {model.id} with on-demand throughput isn\u2019t supported. Retry your request with the ID "
            "or ARN of an inference profile that contains this model."
        )
    name = bedrock.base_model() or "no model of the Hub's cache"
    return InvokedModel(model_id, f"foundation/{name}", name, untuned=name, base_model=model.id, foundation=model)


# Unconfirmed: A request that the server behind an imported model refuses (longer than its context) | Here:
#   `ValidationException` with the server's text | Source: nothing found
@contextlib.contextmanager
def _refusals(bedrock: Bedrock, target: InvokedModel) -> Iterator[None]:
    """Turn the refusals of the model's copy, and the faults, into Bedrock's refusals."""
    fault = faults.take("inference", "not-ready", "throttled", resource=target.arn).how
    if fault == "throttled":
        raise ServiceError("ThrottlingException", _THROTTLED, 429)
    if fault == "not-ready":
        raise ServiceError("ModelNotReadyException", _NOT_READY, 429)
    try:
        yield
    except NotReadyError:
        if target.untuned:
            logs, hub = bedrock.state_dir / "bedrock" / "copies", ", ".join(bedrock.copies.in_hub()) or "nothing"
            text = (
                f"local AWS: {target.untuned} does not start: look at the logs in {logs}, or set base_model by "
                f"/_tuneway/bedrock to a model of the Hub's cache, which has {hub}"
            )
            raise ServiceError("InternalServerException", text, 500) from None
        raise ServiceError("ModelNotReadyException", _NOT_READY, 429) from None
    except RefusedByServerError as error:
        if error.status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise forms.invalid(str(error)) from None
        raise ServiceError("ModelErrorException", _UNEXPECTED, 424) from None
    except TimeoutError:
        raise ServiceError("ModelTimeoutException", "Model has timed out in processing the request.", 408) from None
    except _BROKEN:
        raise ServiceError("ModelErrorException", _UNEXPECTED, 424) from None


def _ask(bedrock: Bedrock, target: InvokedModel, path: str, document: dict[str, Any]) -> Reply:
    """Return the answer of the model's copy. Raises ServiceError."""
    started = time.monotonic()
    if target.foundation is not None and (reply := _scripted(bedrock, target, document)) is not None:
        return reply
    with _refusals(bedrock, target), bedrock.copies.use(target.key, target.model, wait=bool(target.untuned)) as copy:
        answer = copy.ask(path, document)
    return Reply.of(answer, round(1000 * (time.monotonic() - started)))


def _scripted(bedrock: Bedrock, target: InvokedModel, document: dict[str, Any]) -> Reply | None:
    """Return the scripted answer of a foundation model, if there is one for the last message. A fault comes before it."""
    text = str(document["messages"][-1]["content"])
    answer = next(
        (words for pattern, words in scripted(bedrock.controls.scripted_answers) if pattern.search(text)), None
    )
    if answer is None:
        return None
    with _refusals(bedrock, target):
        given = sum(len(turn["content"]) for turn in document["messages"])
        return Reply(answer, "stop", max(1, given // 4), max(1, len(answer) // 4), 1)


def _pieces(bedrock: Bedrock, target: InvokedModel, path: str, document: dict[str, Any]) -> Pieces:
    """Return the answer of the model's copy as it comes. Raises ServiceError."""
    if path != forms.CHAT:
        return Pieces(forms.cut(_ask(bedrock, target, path, document)))

    def chunks() -> Iterator[dict[str, Any]]:
        # Python closes this generator when nobody reads it any more, so that the copy is free again.
        with bedrock.copies.use(target.key, target.model, wait=bool(target.untuned)) as copy:
            yield from copy.stream(path, document)

    with _refusals(bedrock, target):
        return Pieces(chunks())


def _converse_model(bedrock: Bedrock, params: dict[str, Any], request: Request) -> InvokedModel:
    target = _target(bedrock, request, params["modelId"])
    if not target.instruct:
        raise forms.invalid(_NO_CONVERSE)
    most = target.foundation.most_tokens if target.foundation else None
    if most is not None and (params.get("inferenceConfig") or {}).get("maxTokens", 0) > most:
        raise forms.invalid(
            f"The maximum tokens you requested exceeds the model limit of {most}. Try again with a maximum tokens value that "
            f"is lower than {most}."
        )
    return target


@BEDROCK_RUNTIME.operation
def converse(bedrock: Bedrock, params: dict[str, Any], request: Request) -> Response:
    target = _converse_model(bedrock, params, request)
    reply = _ask(bedrock, target, forms.CHAT, forms.converse_chat(params))
    answer = {
        "output": forms.message(reply),
        "stopReason": forms.stop_reason(reply),
        "usage": reply.usage(),
        "metrics": {"latencyMs": reply.milliseconds},
        **target.extra,
    }
    return _json(answer, target)


@BEDROCK_RUNTIME.operation
def converse_stream(bedrock: Bedrock, params: dict[str, Any], request: Request) -> Response:
    target = _converse_model(bedrock, params, request)
    pieces = _pieces(bedrock, target, forms.CHAT, forms.converse_chat(params))
    return _stream(forms.converse_events(pieces, target.extra), target)


def _form(bedrock: Bedrock, params: dict[str, Any], request: Request) -> tuple[InvokedModel, Form]:
    target = _target(bedrock, request, params["modelId"])
    if params.get("contentType", "application/json").partition(";")[0] != "application/json":
        raise forms.invalid("The provided Content Type is invalid or not supported for this model.")
    if target.untuned:
        return target, forms.native_form(target.base_model, params["body"])
    return target, forms.imported_form(params["body"], chat=target.chat)


@BEDROCK_RUNTIME.operation
def invoke_model(bedrock: Bedrock, params: dict[str, Any], request: Request) -> Response:
    target, form = _form(bedrock, params, request)
    return _json(form.whole(_ask(bedrock, target, form.path, form.document)), target)


@BEDROCK_RUNTIME.operation
def invoke_model_with_response_stream(bedrock: Bedrock, params: dict[str, Any], request: Request) -> Response:
    target, form = _form(bedrock, params, request)
    pieces = _pieces(bedrock, target, form.path, form.document)
    events = (
        ("chunk", {"bytes": base64.b64encode(json.dumps(part).encode()).decode()}) for part in _measured(form, pieces)
    )
    return _stream(events, target, {"X-Amzn-Bedrock-Content-Type": "application/json"})


def _measured(form: Form, pieces: Pieces) -> Iterator[dict[str, Any]]:
    """Yield the parts of an answer, the last with its counts."""
    parts = form.parts(pieces)
    last = next(parts)
    for part in parts:
        yield last
        last = part
    counts = {"inputTokenCount": pieces.reply.prompt_tokens, "outputTokenCount": pieces.reply.tokens}
    yield last | {"amazon-bedrock-invocationMetrics": {**counts, "invocationLatency": pieces.reply.milliseconds}}


def _json(document: dict[str, Any], target: InvokedModel) -> Response:
    return Response(200, {"Content-Type": "application/json", **target.headers}, json.dumps(document).encode())


def _stream(
    events: Iterator[tuple[str, dict[str, Any]]], target: InvokedModel, headers: dict[str, str] | None = None
) -> Response:
    kind = {"Content-Type": eventstream.CONTENT_TYPE}
    return Response(200, kind | target.headers | (headers or {}), chunks=_messages(events, target))


def _messages(events: Iterator[tuple[str, dict[str, Any]]], target: InvokedModel) -> Generator[bytes, None, None]:
    """Yield the messages of a stream, and an error as its last one if the answer does not come to its end."""
    try:
        for number, (name, document) in enumerate(events):
            if number == _CUT_AFTER and faults.take("inference", "cut", resource=target.arn):
                raise ConnectionError("a fault cuts this stream")
            yield eventstream.event(name, document)
    except (RefusedByServerError, *_BROKEN):
        yield eventstream.exception("modelStreamErrorException", _UNEXPECTED)
