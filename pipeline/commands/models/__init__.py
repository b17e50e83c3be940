"""Commands about a model's tokenizer and chat template."""
