"""The chat templates of the other families."""

# ruff: noqa: E501, RUF001  # the lines of a template cannot be split, and DeepSeek's bars are wide characters
from __future__ import annotations

from tests.unit.training.families.family import IM, THINK, TURNS, Family

DEEPSEEK_TO_CHATML = {
    "DeepSeek R1 Distill": Family(
        does="writes the instruction without a turn, opens a thinking block and cuts it from answers",
        template="{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}{% elif m['role'] == "
        "'user' %}{{ '<｜User｜>' + m['content'] }}{% else %}{{ '<｜Assistant｜>' + m['content'].split('</think>')[-1] + "
        "'<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}",
        prompt="<｜begin▁of▁sentence｜>Summarize.<｜User｜>Ann: hi\nBob: ho\n<｜Assistant｜><think>\n\n</think>\n\n",
        answer="Ann greets Bob.<｜end▁of▁sentence｜>",
        special=("<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        added=THINK,
    ),
    "DeepSeek V3.1": Family(
        does="switches by a variable called thinking, and only closes a block that was never opened",
        template="{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ bos_token }}{% for m in messages %}"
        "{% if m['role'] == 'system' %}{{ m['content'] }}{% elif m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}"
        "{% else %}{{ '<｜Assistant｜></think>' + m['content'] + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{{ '<think>' if thinking else '</think>' }}{% endif %}",
        prompt="<｜begin▁of▁sentence｜>Summarize.<｜User｜>Ann: hi\nBob: ho\n<｜Assistant｜></think>",
        answer="Ann greets Bob.<｜end▁of▁sentence｜>",
        special=("<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        added=THINK,
    ),
    "Phi 3 mini": Family(
        does="leaves a system turn out without an error",
        template="{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|user|>\\n' + m['content'] + "
        "'<|end|>\\n<|assistant|>\\n' }}{% elif m['role'] == 'assistant' %}{{ m['content'] + '<|end|>\\n' }}{% endif %}{% endfor %}",
        prompt="<s><|user|>\nSummarize.\n\nAnn: hi\nBob: ho\n<|end|>\n<|assistant|>\n",
        answer="Ann greets Bob.<|end|>",
        special=("<|end|>", "<s>", "<|user|>", "<|assistant|>", "<|endoftext|>"),
    ),
    "Phi 3.5": Family(
        does="writes a second end after an answered chat",
        template="{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}",
        prompt="<|system|>\nSummarize.<|end|>\n<|user|>\nAnn: hi\nBob: ho\n<|end|>\n<|assistant|>\n",
        answer="Ann greets Bob.<|end|>",
        special=("<|end|>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>"),
    ),
    "Granite 3.3": Family(
        does="has a default instruction with the date, and writes the generation prompt inside its loop",
        template="""{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = "Today's Date: " + strftime_now('%B %d, %Y') + "." + (" Write your thoughts." if thinking else "") %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + system_message + '<|end_of_text|>
' }}
{%- for message in loop_messages %}
    {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>
' }}
    {%- if loop.last and add_generation_prompt %}
        {{- '<|start_of_role|>assistant<|end_of_role|>' }}
    {%- endif %}
{%- endfor %}
""",
        prompt="<|start_of_role|>system<|end_of_role|>Summarize.<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>"
        "Ann: hi\nBob: ho\n<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
        answer="Ann greets Bob.<|end_of_text|>",
        special=("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"),
    ),
    "Zephyr": Family(
        does="ends the generation prompt without the line break that stands before an answer",
        template="{% for message in messages %}\n{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
        prompt="<|system|>\nSummarize.</s>\n<|user|>\nAnn: hi\nBob: ho\n</s>\n<|assistant|>\n",
        answer="Ann greets Bob.</s>",
        special=("</s>", "<s>", "<unk>"),
    ),
    "Command R7B": Family(
        does="always writes the generation prompt, and puts a token before an answer and one after it",
        template="""{{ bos_token }}<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|># Preamble
{%- if messages[0]['role'] == 'system' %}

{{ messages[0]['content'] }}
{%- endif -%}
<|END_OF_TURN_TOKEN|>
{%- for message in messages %}
    {%- if message.role == 'user' %}
<|START_OF_TURN_TOKEN|><|USER_TOKEN|>{{ message.content }}<|END_OF_TURN_TOKEN|>
    {%- elif message.role == 'assistant' %}
<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>{{ message.content }}<|END_RESPONSE|><|END_OF_TURN_TOKEN|>
    {%- endif %}
{%- endfor %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>""",
        prompt="<BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|># Preamble\nSummarize.<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Ann: hi\nBob: ho\n<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
        "<|START_RESPONSE|>",
        answer="Ann greets Bob.<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
        special=(
            "<|END_OF_TURN_TOKEN|>",
            "<BOS_TOKEN>",
            "<|START_OF_TURN_TOKEN|>",
            "<|SYSTEM_TOKEN|>",
            "<|USER_TOKEN|>",
            "<|CHATBOT_TOKEN|>",
            "<|START_RESPONSE|>",
            "<|END_RESPONSE|>",
        ),
    ),
    "GLM 4.5": Family(
        does="writes a word of its own after the dialogue to switch thinking off, and does not end a turn",
        template="[gMASK]<sop>\n{%- for m in messages %}\n{%- if m.role == 'user' -%}<|user|>\n{{ m.content }}\n"
        "{{- '/nothink' if (enable_thinking is defined and not enable_thinking) else '' -}}\n{%- elif m.role == 'assistant' -%}"
        "<|assistant|>\n{{- '\\n<think></think>\\n' + m.content.strip() }}\n{%- else -%}<|system|>\n{{ m.content }}\n{%- endif -%}"
        "\n{%- endfor -%}\n{%- if add_generation_prompt -%}<|assistant|>\n{{- '\\n<think></think>' if (enable_thinking is "
        "defined and not enable_thinking) else '' -}}\n{%- endif -%}",
        prompt="[gMASK]<sop><|system|>\nSummarize.<|user|>\nAnn: hi\nBob: ho\n/nothink<|assistant|>\n<think></think>",
        answer="\nAnn greets Bob.<|endoftext|>",
        special=("<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", "/nothink"),
        added=THINK,
    ),
    "Nemotron Nano 2": Family(
        does="opens a thinking block both in the prompt and in an answered turn, unless the instruction or the dialogue has /no_think",
        template="""{%- set ns = namespace(thinks=true) -%}
{%- for m in messages -%}
    {%- if m['role'] != 'assistant' and '/think' in m['content'] -%}
        {%- set ns.thinks = true -%}
    {%- elif m['role'] != 'assistant' and '/no_think' in m['content'] -%}
        {%- set ns.thinks = false -%}
    {%- endif -%}
{%- endfor -%}
{%- for m in messages -%}
    {%- set content = m['content'].replace('/think', '').replace('/no_think', '').strip() -%}
    {%- if m['role'] == 'system' -%}
        {{- '<SPECIAL_10>System\\n' + content + '\\n\\n' -}}
    {%- elif m['role'] == 'user' -%}
        {{- '<SPECIAL_11>User\\n' + content + '\\n' -}}
    {%- else -%}
        {{- '<SPECIAL_11>Assistant\\n' + ('<think>\\n\\n' if ns.thinks else '<think></think>') -}}
        {{- m['content'].strip() + '\\n<SPECIAL_12>\\n\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<SPECIAL_11>Assistant\\n' + ('<think>\\n\\n' if ns.thinks else '<think></think>') -}}
{%- endif -%}
""",
        prompt="<SPECIAL_10>System\nSummarize.\n\n<SPECIAL_11>User\nAnn: hi\nBob: ho\n<SPECIAL_11>Assistant\n<think></think>",
        answer="Ann greets Bob.\n<SPECIAL_12>",
        special=("<SPECIAL_12>", "<SPECIAL_10>", "<SPECIAL_11>"),
    ),
    "MiniMax M2": Family(
        does="opens a thinking block in the generation prompt, and writes one in answered turns only where there was thinking",
        template="{% for m in messages %}{{ ']~b]' + ('ai' if m.role == 'assistant' else m.role) + '\\n' + m.content + '[e~[\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ ']~b]ai\\n<think>\\n' }}{% endif %}\n\n",
        prompt="]~b]system\nSummarize.[e~[\n]~b]user\nAnn: hi\nBob: ho\n[e~[\n]~b]ai\n<think>\n\n</think>\n\n",
        answer="Ann greets Bob.[e~[",
        special=("[e~[", "]~b]"),
        added=THINK,
    ),
    "gpt-oss": Family(
        does="lets the assistant choose a channel before it answers",
        template="""{%- macro build_system_message() -%}
    {{- "Current date: " + strftime_now("%Y-%m-%d") }}
{%- endmacro -%}
{{- "<|start|>system<|message|>" + build_system_message() + "<|end|>" }}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {{- "<|start|>developer<|message|># Instructions\\n\\n" + message.content + "<|end|>" }}
    {%- elif message.role == 'user' -%}
        {{- "<|start|>user<|message|>" + message.content + "<|end|>" }}
    {%- else -%}
        {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + ("<|return|>" if loop.last else "<|end|>") }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|start|>assistant
{%- endif -%}""",
        prompt="<|start|>system<|message|>Current date: 2024-07-26<|end|><|start|>developer<|message|># Instructions\n\n"
        "Summarize.<|end|><|start|>user<|message|>Ann: hi\nBob: ho\n<|end|><|start|>assistant<|channel|>final<|message|>",
        answer="Ann greets Bob.<|return|>",
        special=("<|return|>", "<|start|>", "<|message|>", "<|end|>", "<|channel|>"),
    ),
    "Seed-OSS": Family(
        does="switches thinking off by a budget of 0",
        template="{%- if not thinking_budget is defined %}\n{%- set thinking_budget = -1 -%}\n{%- endif -%}\n"
        "{%- for m in messages %}\n{{- '<seed:bos>' + m.role + '\\n' + m.content + '<seed:eos>' }}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n{{- '<seed:bos>assistant\\n' }}\n{%- if thinking_budget == 0 %}\n"
        "{{- '<seed:think>No budget.</seed:think>' }}\n{%- endif %}\n{%- endif %}",
        prompt="<seed:bos>system\nSummarize.<seed:eos><seed:bos>user\nAnn: hi\nBob: ho\n<seed:eos><seed:bos>assistant\n"
        "<seed:think>No budget.</seed:think>",
        answer="Ann greets Bob.<seed:eos>",
        special=("<seed:eos>", "<seed:bos>"),
        added=("<seed:think>", "</seed:think>"),
    ),
    "Magistral": Family(
        does="opens a thinking block with other marks",
        template="{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]"
        "{% elif m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}[THINK]{% endif %}",
        prompt="<s>[SYSTEM_PROMPT]Summarize.[/SYSTEM_PROMPT][INST]Ann: hi\nBob: ho\n[/INST][THINK]\n[/THINK]\n\n",
        answer="Ann greets Bob.</s>",
        special=("</s>", "<s>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]", "[THINK]", "[/THINK]"),
    ),
    "Vicuna": Family(
        does="writes turns as plain text, and the answer after a space",
        template="{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim + '\\n\\n' %}{% set messages"
        " = messages[1:] %}{% else %}{% set system = '' %}{% endif %}{{ bos_token + system }}{% for m in messages %}"
        "{% if m['role'] == 'user' %}{{ 'USER: ' + m['content'] | trim + '\\n' }}{% else %}{{ 'ASSISTANT: ' + "
        "m['content'] | trim + eos_token + '\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
        prompt="<s>Summarize.\n\nUSER: Ann: hi\nBob: ho\nASSISTANT:",
        answer=" Ann greets Bob.</s>",
        special=("</s>", "<s>"),
    ),
    "ChatML of old": Family(
        does="has no generation prompt",
        template=TURNS,
        prompt="<|im_start|>system\nSummarize.<|im_end|>\n<|im_start|>user\nAnn: hi\nBob: ho\n<|im_end|>\n<|im_start|>assistant\n",
        answer="Ann greets Bob.<|im_end|>",
        special=IM,
    ),
}
