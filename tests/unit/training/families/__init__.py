"""Chat templates of model families: what each does that another does not, in Jinja of our own that does the same.

Read from the templates that the families' repositories publish; without tools, documents and pictures. `prompt` and `answer`
are what training and serving have to make of `CHAT`, on 26 July 2024.
"""

from tests.unit.training.families.deepseek_to_chatml import DEEPSEEK_TO_CHATML
from tests.unit.training.families.family import ASKED, CHAT, DIALOGUE, INSTRUCTION, SUMMARY, Family
from tests.unit.training.families.llama_to_smollm import LLAMA_TO_SMOLLM

__all__ = ["ASKED", "CHAT", "DIALOGUE", "FAMILIES", "INSTRUCTION", "SUMMARY", "Family"]

FAMILIES = LLAMA_TO_SMOLLM | DEEPSEEK_TO_CHATML
