"""`POST /apply-template`: a conversation as the text that the model reads."""

from __future__ import annotations

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from nomoat.run.sampling import SamplingParams
from nomoat.server.answers import AnswerRequest
from nomoat.server.errors import llama_server_error
from nomoat.server.llama_server.wire import TemplateRequest
from nomoat.server.openai_messages import plain_messages, template_variables, tools_of
from nomoat.server.prefill import prompt_text
from nomoat.server.service import service_of
from nomoat.server.wire import Operation, json_response

__all__ = ["OPERATIONS", "apply_template"]


async def apply_template(request: Request, body: TemplateRequest) -> Response:
    """The prompt of a conversation, ready to be sent to `/completion`. A begun answer at its end goes on."""
    wanted = AnswerRequest(
        model=body.model or "", sampling=SamplingParams(), messages=plain_messages(body.messages),
        tools=tools_of(body.tools or ()), template_variables=template_variables(body.chat_template_kwargs),
    )  # fmt: skip
    text = await to_thread.run_sync(prompt_text, service_of(request).models, wanted)
    return json_response({"prompt": text})


OPERATIONS = (
    Operation("POST", "/apply-template", apply_template, "A conversation as a prompt.", TemplateRequest,
              problem=llama_server_error, tag="llama-server"),
)  # fmt: skip
