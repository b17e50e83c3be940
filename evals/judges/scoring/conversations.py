"""Prompt and completion as the tokens that a reward model reads."""

from evals.judges.kinds.reward_model import RewardModelJudge
from evals.judges.layout import neutralise
from evals.judges.scoring.fitting import cut_warning, shortened, token_length
from evals.models.chat.renderer import ChatRenderer
from evals.models.checkpoints import load_tokenizer
from schemas.labels import Messages


class ConversationReader:
    """Renders a prompt and a completion as one finished conversation, within a limit."""

    def __init__(self, config: RewardModelJudge, limit: int | None) -> None:
        """`limit` is the most positions that the model has. Opens the tokenizer.

        Raises:
            ConfigError: it has no chat template. And what opening it raises.
        """
        self.config = config
        self.renderer = ChatRenderer(load_tokenizer(config.model))
        limits = (limit, config.max_prompt_tokens)
        self.max_tokens = min((n for n in limits if n is not None), default=2**31 - 1)
        self._cut = 0

    @property
    def warnings(self) -> list[str]:
        """How many conversations were not shown whole."""
        return cut_warning(self._cut, self.max_tokens)

    def conversation_ids(self, prompt: Messages, completion: Messages) -> list[int]:
        """The conversation's tokens, its completion cut to fit where that is wished."""
        ids = whole = self._ids(prompt, completion)
        most = token_length(self.renderer.tokenizer, completion)
        while len(ids) > self.max_tokens and self.config.overlong == "cut":
            most -= len(ids) - self.max_tokens
            if most < 1:
                return whole
            ids = self._ids(prompt, shortened(self.renderer.tokenizer, completion, most))
        self._cut += ids is not whole
        return ids

    def _ids(self, prompt: Messages, completion: Messages) -> list[int]:
        """The finished conversation, as the chat template closes it."""
        turns = [*neutralise(prompt), *neutralise(completion, self.config.show_reasoning)]
        clean = [t | {"content": self.renderer.neutralise(t["content"])} for t in turns]
        tokenizer = self.renderer.tokenizer
        text = tokenizer.apply_chat_template(clean, tokenize=False)
        return list(tokenizer.encode(str(text), add_special_tokens=False))
