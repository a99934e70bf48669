"""Log-likelihoods for lm-eval: each distinct beginning computed once, logits only where scored.

lm-eval's own model for Hugging Face computes a context again for every choice, keeps the logits
of all positions, and turns all of them into float32 probabilities. This one answers the same
requests; encoding, truncation, tasks and metrics stay lm-eval's.
"""

from __future__ import annotations

from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor, nn

from bench.tasks import token_tree
from bench.tasks.tokens import TokenCache, joined
from offsite.head_loss import next_token_scores

Asked = tuple[tuple[str, str] | None, list[int], list[int]]
"""Texts, tokens of the context, tokens of the continuation."""

AGREES = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""By how much of the largest logit a branching row may differ from plain ones."""


class SharedPrefixLM(HFLM):  # type: ignore[misc]
    """Answers `loglikelihood` and `loglikelihood_rolling` as HFLM does, with less to compute."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,  # noqa: ANN401 - untyped library
        *,
        batch_size: int,
        max_length: int,
        tokens: TokenCache | None = None,
    ) -> None:
        super().__init__(
            pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_length=max_length
        )
        self.tokens = tokens or TokenCache(tokenizer, None)
        self.known = self.tokens.encode([])
        """The texts of the requests at hand."""
        self.start = self.tokenizer.decode(self.prefix_token_id)
        self.refusal = branching_refusal(model, max_length)
        """Why contexts are not shared between choices; None where they are."""

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> Any:  # noqa: ANN401
        """lm-eval's, every text tokenised before the first is asked for."""
        self.known = self.tokens.encode(joined(request.args for request in requests))
        return super().loglikelihood(requests, disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> Any:  # noqa: ANN401
        """Likewise."""
        self.known = self.tokens.encode(request.args[0] for request in requests)
        return super().loglikelihood_rolling(requests, disable_tqdm)

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **options: Any,  # noqa: ANN401 - untyped library
    ) -> list[int]:
        """lm-eval's, looked up where it would call the tokenizer with nothing but the text."""
        is_plain = add_special_tokens is None and not left_truncate_len and not options
        # To what begins with the start token lm-eval adds none.
        if is_plain and string in self.known and not string.startswith(self.start):
            return self.known[string]
        encoded: list[int] = super().tok_encode(
            string, add_special_tokens, left_truncate_len, **options
        )
        return encoded

    def _loglikelihood_tokens(
        self,
        requests: list[Asked],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Sum of the continuation's log-likelihoods, and whether greedy decoding would say it."""
        # The start of what is too long is lost, and nothing comes after the last token.
        whole = [(ctx + said)[-(self.max_length + 1) :] for _, ctx, said in requests]
        made = token_tree.rows(
            [tokens[:-1] for tokens in whole],
            width=self.config.get_text_config().hidden_size,
            branching=self.refusal is None,
        )
        answers: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
        size = override_bs or int(self.batch_size)
        for batch in token_tree.batches(made, size, self.device.type):
            paths = [(b, *each) for b, row in enumerate(batch) for each in row.paths.items()]
            sizes = [len(requests[number][2]) for _, number, _ in paths]
            wanted = [
                (b, path[-size:], whole[number][-size:])
                for (b, number, path), size in zip(paths, sizes, strict=True)
            ]
            parts = (torch.split(each, sizes) for each in self._scored(batch, wanted))
            for (_, number, _), score, top in zip(paths, *parts, strict=True):
                answers[number] = float(score.double().sum()), bool(top.all())
        for (texts, _, _), answer in zip(requests, answers, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def _scored(
        self, batch: list[token_tree.Row], wanted: list[tuple[int, list[int], list[int]]]
    ) -> tuple[Tensor, Tensor]:
        """Log-likelihoods of the wanted tokens, and whether each is the likeliest, on the host.

        Args:
            batch: rows.
            wanted: of a sequence its row, places in it, and the tokens that come after each.
        """
        inputs = _inputs(batch, self.device, next(self.model.parameters()).dtype)
        length = inputs["input_ids"].shape[1]
        places = torch.tensor([b * length + place for b, path, _ in wanted for place in path])
        targets = torch.tensor([token for _, _, tokens in wanted for token in tokens])
        with torch.inference_mode():
            scores, is_top = next_token_scores(
                self.model, inputs, places.to(self.device), targets.to(self.device)
            )
        return scores.cpu(), is_top.cpu()


def branching_refusal(model: nn.Module, length: int) -> str | None:
    """Why `model` cannot compute rows that branch; None if it can.

    Asked by trying: whether positions and a mask of its own are heeded is written nowhere.
    """
    config: Any = model.config
    text = config.get_text_config()
    for name in ("sliding_window", "attention_chunk_size"):
        window = getattr(text, name, None)
        if window is not None and window < length:
            return f"it attends within {window} tokens, and the task's length is {length}"
    vocabulary = min(text.vocab_size, 1000)
    tokens = [[(7 * i + 3) % vocabulary for i in range(size)] for size in (9, 9)]
    tokens[1][5:] = [(11 * i + 1) % vocabulary for i in range(4)]
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    (tree,) = token_tree.rows(tokens, width=text.hidden_size, branching=True)
    plain = token_tree.rows(tokens, width=text.hidden_size, branching=False)
    try:
        with torch.inference_mode():
            branching = model(**_inputs([tree], device, dtype), use_cache=False).logits[0].float()
            apart = model(**_inputs(plain, device, dtype), use_cache=False).logits.float()
    except Exception as error:  # an architecture may refuse in any way it likes
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    for b, row in enumerate(plain):
        for number, path in row.paths.items():
            expected, found = apart[b][path], branching[tree.paths[number]]
            if not torch.allclose(
                found, expected, rtol=0, atol=AGREES[dtype] * float(expected.abs().max())
            ):
                return "its logits are others than those of the sequences one by one"
    return None


def _inputs(batch: list[token_tree.Row], device: torch.device, dtype: torch.dtype) -> Any:  # noqa: ANN401
    """What a model is called with: (rows, length) tokens; where rows branch, more."""
    length = max(len(row.tokens) for row in batch)
    ids = torch.zeros((len(batch), length), dtype=torch.long)
    for b, row in enumerate(batch):
        ids[b, : len(row.tokens)] = torch.tensor(row.tokens)
    inputs = {"input_ids": ids.to(device)}
    if all(row.is_chain for row in batch):
        # Padding comes last, and nothing looks back from before it.
        return inputs
    positions = torch.zeros_like(ids)
    for b, row in enumerate(batch):
        positions[b, : len(row.depths)] = torch.tensor(row.depths)
    allowed = torch.stack([torch.from_numpy(row.mask(length)) for row in batch])[:, None]
    hidden = torch.zeros(allowed.shape, dtype=dtype, device=device)
    inputs["position_ids"] = positions.to(device)
    # A yes or no takes a quarter of a number's way to a GPU, or less.
    inputs["attention_mask"] = hidden.masked_fill_(~allowed.to(device), torch.finfo(dtype).min)
    return inputs
