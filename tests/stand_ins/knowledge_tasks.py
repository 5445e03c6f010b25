"""Knowledge tasks from a few words: each option is the setting that it stands for."""

from seal_jax.settings import config_dict
from seal_jax.tasks.knowledge.task import KnowledgeTask

_SETTINGS = {
    "train_path": "data.train_path",
    "eval_path": "data.eval_path",
    "edits": "data.edits",
    "data_dir": "data.dir",
    "train_part": "data.train_part",
    "eval_part": "data.eval_part",
    "max_train": "data.max_train_contexts",
    "max_eval": "data.max_eval_contexts",
    "min_words": "data.min_words",
    "max_words": "data.max_words",
    "edit_format": "prompts.edit_format",
    "prompts_dir": "prompts.dir",
    "edit_style": "edits.prompt_style",
    "question_style": "answers.prompt_style",
    "append_passage": "edits.append_passage",
    "title_prefix": "edits.title_prefix",
    "topic_prefix": "answers.topic_prefix",
    "entity_pairs": "evaluation.entity_pairs",
    "entity_triples": "evaluation.entity_triples",
}
_PATHS = ("train_path", "eval_path", "edits", "data_dir", "prompts_dir")


def knowledge_task(**options) -> KnowledgeTask:
    """A task under the default settings but for these; prompts are worded as chats."""
    groups: dict[str, dict] = {}
    for name, value in ({"edit_style": "chat", "question_style": "chat"} | options).items():
        group, _, key = _SETTINGS[name].partition(".")
        groups.setdefault(group, {})[key] = str(value) if name in _PATHS else value
    return KnowledgeTask(config_dict.from_config(groups))
