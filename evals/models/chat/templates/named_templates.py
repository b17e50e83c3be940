"""Chat templates by name or path, for models whose tokenizer has none or not the one wanted."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError

ARGUMENTS_KEY = "chat_template_kwargs"
"""Where a tokenizer keeps the arguments that its template is given, also when it is saved."""
DATE_KEY = "chat_template_date"
"""Where it keeps the day that a template which reads the clock is told."""
_DAY = date(2026, 1, 1)

# `eos_token` or `<|im_end|>` ends every completion, so that a policy learns to stop.
CHAT_TEMPLATES = {
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "role_colon": (
        "{{ bos_token if bos_token }}"
        "{% for message in messages %}"
        "{{ message['role'] | capitalize + ': ' + message['content'] }}"
        "{{ eos_token if message['role'] == 'assistant' and loop.last else '\n\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
}


def named_template(name: str, tokenizer: Any) -> str:
    """A template by its name; it begins as the tokenizer begins every text."""
    template = CHAT_TEMPLATES[name]
    begin = tokenizer.bos_token_id
    begins = begin is not None and tokenizer.encode("x")[:1] == [begin]
    return "{{ bos_token }}" + template if begins and "bos_token" not in template else template


def template_file(chat_template: str | None) -> Path | None:
    """The file of a chat template that is given by path; None where it is given by name, or not.

    Raises:
        ConfigError: neither a name nor a file.
    """
    if chat_template is None or chat_template in CHAT_TEMPLATES:
        return None
    if not Path(chat_template).is_file():
        raise ConfigError(
            f"chat_template {chat_template!r}: neither {' nor '.join(CHAT_TEMPLATES)} nor a file; "
            "correct the name or the path"
        )
    return Path(chat_template)


def dressed(
    tokenizer: Any, chat_template: str | None, arguments: Mapping[str, Any], day: date | None
) -> Any:
    """A tokenizer with the chat template, its arguments and its day; it keeps what is not given.

    Raises:
        ConfigError: there is no such template.
    """
    file = template_file(chat_template)
    if file is not None:
        tokenizer.chat_template = file.read_text(encoding="utf-8")
    elif chat_template is not None:
        tokenizer.chat_template = named_template(chat_template, tokenizer)
    kept = tokenizer.init_kwargs
    if arguments:
        kept[ARGUMENTS_KEY] = {**(kept.get(ARGUMENTS_KEY) or {}), **arguments}
    kept[DATE_KEY] = str(day or kept.get(DATE_KEY) or _DAY)
    return tokenizer
