"""The chat templates of Llama, Mistral, Gemma, Qwen and SmolLM."""

# ruff: noqa: E501  # the lines of a template cannot be split
from __future__ import annotations

from tests.unit.training.families.family import ALTERNATE, IM, THINK, TURNS, Family

LLAMA_TO_SMOLLM = {
    "Llama 3.2": Family(
        does="writes today's date before the instruction, and trims",
        template="""{{- bos_token }}
{%- if strftime_now is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
        prompt="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\nSummarize.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nAnn: hi\nBob: ho<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        answer="Ann greets Bob.<|eot_id|>",
        special=(
            "<|eot_id|>",
            "<|begin_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|reserved_special_token_0|>",
        ),
    ),
    "Llama 2": Family(
        does="puts the instruction into the user's turn, and a space on both sides of the answer",
        template="{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
        "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}{% for m in rest %}"
        + ALTERNATE
        + "{% if "
        "loop.index0 == 0 and system != false %}{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + m['content'] %}"
        "{% else %}{% set content = m['content'] %}{% endif %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + "
        "content.strip() + ' [/INST]' }}{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        prompt="<s>[INST] <<SYS>>\nSummarize.\n<</SYS>>\n\nAnn: hi\nBob: ho [/INST]",
        answer=" Ann greets Bob. </s>",
        special=("</s>", "<s>", "<unk>"),
    ),
    "Mistral 7B v0.2": Family(
        does="raises an error for a system turn, because turns must alternate",
        template="{{ bos_token }}{% for m in messages %}" + ALTERNATE + "{% if m['role'] == 'user' %}{{ '[INST] ' + "
        "m['content'] + ' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% else %}"
        "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
        prompt="<s>[INST] Summarize.\n\nAnn: hi\nBob: ho\n [/INST]",
        answer="Ann greets Bob.</s>",
        special=("</s>", "<s>"),
    ),
    "Mistral Nemo": Family(
        does="writes the instruction into the last turn if that is the user's, so a chat with an answer has none",
        template="""{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" and loop.last and system_message is defined %}
        {{- "[INST]" + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
    {%- elif message["role"] == "user" %}
        {{- "[INST]" + message["content"] + "[/INST]" }}
    {%- else %}
        {{- message["content"] + eos_token }}
    {%- endif %}
{%- endfor %}
""",
        prompt="<s>[INST]Summarize.\n\nAnn: hi\nBob: ho\n[/INST]",
        answer="Ann greets Bob.</s>",
        special=("</s>", "<s>", "[INST]", "[/INST]", "[TOOL_CALLS]"),
    ),
    "Mistral Small 3.1": Family(
        does="has a default instruction with the date, and a token of its own around the instruction",
        template="""{%- set today = strftime_now("%Y-%m-%d") %}
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] if messages[0]['content'] is string else messages[0]['content'][0]['text'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = "You are an assistant. The current date is " + today + "." %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}
{%- for message in loop_messages %}
    {%- if message['role'] == 'user' %}
        {%- if message['content'] is string %}
            {{- '[INST]' + message['content'] + '[/INST]' }}
        {%- else %}
            {{- '[INST]' }}
            {%- for block in message['content'] %}
                {{- block['text'] }}
            {%- endfor %}
            {{- '[/INST]' }}
        {%- endif %}
    {%- else %}
        {{- message['content'] + eos_token }}
    {%- endif %}
{%- endfor %}""",
        prompt="<s>[SYSTEM_PROMPT]Summarize.[/SYSTEM_PROMPT][INST]Ann: hi\nBob: ho\n[/INST]",
        answer="Ann greets Bob.</s>",
        special=("</s>", "<s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]"),
    ),
    "Gemma 2": Family(
        does="raises an error for a system turn, calls the assistant's role model, and trims",
        template="{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for m in messages %}"
        + ALTERNATE
        + "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else "
        "m['role']) + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<start_of_turn>model\\n' }}{% endif %}",
        prompt="<bos><start_of_turn>user\nSummarize.\n\nAnn: hi\nBob: ho<end_of_turn>\n<start_of_turn>model\n",
        answer="Ann greets Bob.<end_of_turn>",
        special=("<end_of_turn>", "<bos>", "<eos>", "<start_of_turn>"),
        added=("\n\n", "<table>"),
    ),
    "Gemma 3": Family(
        does="puts the instruction before the dialogue, and loops over the parts of a content",
        template="""{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- else -%}
        {%- for item in message['content'] -%}
            {{ item['text'] | trim }}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
""",
        prompt="<bos><start_of_turn>user\nSummarize.\n\nAnn: hi\nBob: ho<end_of_turn>\n<start_of_turn>model\n",
        answer="Ann greets Bob.<end_of_turn>",
        special=("<end_of_turn>", "<bos>", "<eos>", "<start_of_turn>", "<start_of_image>"),
    ),
    "Gemma 4": Family(
        does="ends the generation prompt with an empty channel of thought, which an answered turn does not have",
        template="""{{ bos_token }}
{%- for message in messages -%}
    {{- '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
    {%- if enable_thinking is defined and enable_thinking and loop.first %}{{ '<|think|>' }}{% endif -%}
    {{- message['content'] | trim + '<turn|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|turn>model\\n' -}}
    {%- if not enable_thinking | default(false) -%}
        {{- '<|channel>thought\\n<channel|>' -}}
    {%- endif -%}
{%- endif -%}
""",
        prompt="<bos><|turn>system\nSummarize.<turn|>\n<|turn>user\nAnn: hi\nBob: ho<turn|>\n<|turn>model\n"
        "<|channel>thought\n<channel|>",
        answer="Ann greets Bob.<turn|>",
        special=("<turn|>", "<bos>", "<|turn>", "<|channel>", "<channel|>", "<|think|>"),
    ),
    "Qwen 2.5": Family(
        does="writes a system turn of its own if there is none",
        template="{%- if messages[0]['role'] == 'system' %}\n    {{- '<|im_start|>system\\n' + messages[0]['content'] + "
        "'<|im_end|>\\n' }}\n{%- else %}\n    {{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}\n{%- endif %}\n"
        "{%- for message in messages %}\n    {%- if message.role != 'system' or not loop.first %}\n        {{- '<|im_start|>' + "
        "message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
        prompt="<|im_start|>system\nSummarize.<|im_end|>\n<|im_start|>user\nAnn: hi\nBob: ho\n<|im_end|>\n<|im_start|>assistant\n",
        answer="Ann greets Bob.<|im_end|>",
        special=(*IM, "<|endoftext|>"),
    ),
    "Qwen 3": Family(
        does="puts an empty thinking block before the last answer, and into the generation prompt if enable_thinking is false",
        template="""{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == "assistant" and '</think>' in content %}
        {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if message.role == "assistant" and loop.last %}
        {{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + content + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
        prompt="<|im_start|>system\nSummarize.<|im_end|>\n<|im_start|>user\nAnn: hi\nBob: ho\n<|im_end|>\n<|im_start|>assistant\n"
        "<think>\n\n</think>\n\n",
        answer="Ann greets Bob.<|im_end|>",
        special=(*IM, "<|endoftext|>"),
        added=THINK,
    ),
    "QwQ": Family(
        does="opens a thinking block in the generation prompt, without a switch, and has none in an answered turn",
        template=TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{{- '\\n' }}{% endif %}\n",
        prompt="<|im_start|>system\nSummarize.<|im_end|>\n<|im_start|>user\nAnn: hi\nBob: ho\n<|im_end|>\n<|im_start|>assistant\n"
        "<think>\n\n</think>\n\n",
        answer="Ann greets Bob.<|im_end|>",
        special=IM,
        added=THINK,
    ),
    "SmolLM3": Family(
        does="writes date and reasoning mode, marks what is generated, and strips line breaks before an answer",
        template="""{%- if enable_thinking is not defined -%}
{%- set enable_thinking = true -%}
{%- endif -%}
{%- set reasoning_mode = "/think" if enable_thinking else "/no_think" -%}
{{- "<|im_start|>system\\n" -}}
{%- if messages[0].role == "system" -%}
{%- set custom_instructions = messages[0].content.replace("/no_think", "").replace("/think", "").rstrip() -%}
{%- endif -%}
{%- set today = strftime_now("%d %B %Y") -%}
{{- "Today Date: " ~ today ~ "\\nReasoning Mode: " + reasoning_mode + "\\n\\n" + custom_instructions + "<|im_end|>\\n" -}}
{%- for message in messages -%}
{%- if message.role == "user" -%}
{{ "<|im_start|>user\\n" + message.content + "<|im_end|>\\n" }}
{%- elif message.role == "assistant" -%}
{% generation %}
{%- if reasoning_mode == "/think" -%}
{{ "<|im_start|>assistant\\n" + message.content.lstrip("\\n") + "<|im_end|>\\n" }}
{%- else -%}
{{ "<|im_start|>assistant\\n" + "<think>\\n\\n</think>\\n" + message.content.lstrip("\\n") + "<|im_end|>\\n" }}
{%- endif -%}
{% endgeneration %}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ "<|im_start|>assistant\\n" + ("" if reasoning_mode == "/think" else "<think>\\n\\n</think>\\n") }}
{%- endif -%}
""",
        prompt="<|im_start|>system\nToday Date: 26 July 2024\nReasoning Mode: /no_think\n\nSummarize.<|im_end|>\n"
        "<|im_start|>user\nAnn: hi\nBob: ho\n<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n",
        answer="Ann greets Bob.<|im_end|>",
        special=IM,
        added=THINK,
    ),
}
