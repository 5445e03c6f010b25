"""Generated text, read by one rule: what a model says, and what it only thought.

Reasoning models think before they answer. What they think is no self-edit, no answer and no
verdict: every reader of generated text (self-edits, answers, a teacher's texts, the replies of
judges and rubrics) takes it off here, and records it apart. Thoughts are

- what stands between `<think>` at the start of a line and `</think>`, or after it where it is never
  ended; so with `<thinking>`, `<thought>` and `[THINK]`;
- all before an end that nothing began, since some chat templates begin the thought in the prompt;
- of gpt-oss, all channels but "final".

Reading takes time in proportion to the text, whatever the text is.
"""

import re
from typing import NamedTuple

_ENDS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "[THINK]": "[/THINK]",
}
_TAG = re.compile(
    r"^[ \t]*(?:<(?:think|thinking|thought)>|\[THINK\])"
    r"|(?P<end></(?:think|thinking|thought)>|\[/THINK\])",
    re.IGNORECASE | re.MULTILINE,
)
_CHANNEL, _ANALYSIS = "<|channel|>", "<|channel|>analysis<|message|>"
_FINAL = "<|channel|>final<|message|>"
_OF_CHANNELS = ("start", "channel", "message", "constrain", "end", "return", "call")
_MARK = re.compile(rf"<\|({'|'.join(_OF_CHANNELS)})\|>")
# gpt-oss as servers write it that leave special tokens out.
_JOINED = ("analysis", "assistantfinal")
# What servers leave at the end of a text.
_STOPS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "</s>",
          "<end_of_turn>", "<|end|>", "<|return|>")  # fmt: skip


class Said(NamedTuple):
    """A generated text.

    Attributes:
      text: what it says, without thoughts, stop tokens and outer white space.
      thoughts: what was taken off; "" for none.
      cut_off: whether it ends at the length limit.
    """

    text: str
    thoughts: str = ""
    cut_off: bool = False


def read(text: str, *, opened: bool = False, cut_off: bool = False) -> Said:
    """What a generated text says.

    Args:
      opened: whether its prompt has begun a thought; see `opens`.
      cut_off: whether it ends at the length limit.

    >>> read("<think>21 is right.</think>\\n\\nYes."), read("So it is 21.</think> Yes.")
    (Said(text='Yes.', thoughts='21 is right.', cut_off=False), \
Said(text='Yes.', thoughts='So it is 21.', cut_off=False))
    >>> read("<think>Yes? No?").text, read("Yes<|im_end|>").text
    ('', 'Yes')
    """
    first, last = _JOINED
    if _CHANNEL in text:
        said, thoughts = _of_channels(text)
    elif text.startswith(first) and last in text:
        before, _, after = text.rpartition(last)
        said, thoughts = [after], [before.removeprefix(first)]
    else:
        said, thoughts = _of_tags(text, opened)
    whole = "".join(said).strip()
    end = len(whole)
    while whole.endswith(_STOPS, 0, end):
        end = whole.rindex("<", 0, end)
        while end and whole[end - 1].isspace():
            end -= 1
    return Said(whole[:end], "\n\n".join(filter(None, map(str.strip, thoughts))), cut_off)


def opens(prompt: str) -> bool:
    """Whether a prompt, or its end, has begun a thought that what follows goes on with.

    >>> opens("<|assistant|><think>\\n"), opens("<think>\\n\\n</think>\\n\\n")
    (True, False)
    """
    return prompt.rstrip().endswith((*_ENDS, _ANALYSIS))


def until_answer(prompt: str) -> str:
    """What has to follow a prompt before an answer that is given may; "" where nothing has to.

    >>> until_answer("<|assistant|><think>\\n"), until_answer("<|start|>assistant")
    ('\\n</think>\\n\\n', '<|channel|>final<|message|>')
    >>> until_answer("<|im_start|>assistant\\n")
    ''
    """
    begun = prompt.rstrip()
    for start, end in _ENDS.items():
        if begun.endswith(start):
            return "\n\n"[len(prompt) - len(begun) :] + f"{end}\n\n"
    if begun.endswith(_ANALYSIS):
        return f"<|end|><|start|>assistant{_FINAL}"
    return _FINAL if begun.endswith("<|start|>assistant") else ""


def marks(special: set[str]) -> set[str]:
    """Which of a tokenizer's special tokens `read` has to see."""
    of_channels = {f"<|{name}|>" for name in _OF_CHANNELS if _CHANNEL in special}
    return special & {*_ENDS, *_ENDS.values(), *of_channels}


def _of_tags(text: str, opened: bool) -> tuple[list[str], list[str]]:
    """What is said and what is thought, in pieces."""
    said: list[str] = []
    thoughts: list[str] = []
    at = 0
    for tag in _TAG.finditer(text):
        if tag["end"]:
            thoughts += [*said, text[at : tag.start()]] if not opened else [text[at : tag.start()]]
            said = said if opened else []
            opened, at = False, tag.end()
        elif not opened:
            said.append(text[at : tag.start()])
            opened, at = True, tag.end()
    (thoughts if opened else said).append(text[at:])
    return said, thoughts


def _of_channels(text: str) -> tuple[list[str], list[str]]:
    """What is said in the channel "final", and what in the others."""
    said: list[str] = []
    thoughts: list[str] = []
    channel, (first, *rest) = "", _MARK.split(text)
    thoughts.append(first)  # of a channel that the prompt has begun
    for mark, piece in zip(rest[::2], rest[1::2], strict=True):
        if mark == "channel":
            channel = piece.strip()
        elif mark == "message":
            (said if channel == "final" else thoughts).append(piece)
    return said, thoughts
