"""Chat templates of model families, in Jinja of our own. Each template does something that the others do not.

We read the templates that the families' repositories publish. Tools, documents and pictures are left out. `prompt` and
`answer` are the texts that training and serving must make from `CHAT` on 26 July 2024.
"""

from tests.unit.training.families.deepseek_to_chatml import DEEPSEEK_TO_CHATML
from tests.unit.training.families.family import CHAT, DIALOGUE, INSTRUCTION, REQUEST, SUMMARY, Family
from tests.unit.training.families.llama_to_smollm import LLAMA_TO_SMOLLM

__all__ = ["CHAT", "DIALOGUE", "FAMILIES", "INSTRUCTION", "REQUEST", "SUMMARY", "Family"]

FAMILIES = LLAMA_TO_SMOLLM | DEEPSEEK_TO_CHATML
