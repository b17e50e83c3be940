"""How items go through a model: packed with shared prompts and a fused head, or padded."""
