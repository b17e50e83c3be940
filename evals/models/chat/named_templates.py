"""Chat templates by name, for base models whose tokenizer has none."""

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
