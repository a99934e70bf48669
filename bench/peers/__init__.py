"""Other training loops, run over the same model and data to compare ours with. Never imports torch.

They are written to be what their name says, not to be fast or slow: what a user would have
without this program.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of the table."""

    function: str
    """'module:function', called as `function(model, task, examples, recipe, batch_size=, seed=,
    on_step=)`; trains in place and returns the mean loss of all steps."""
    summary: str


PEERS: dict[str, Peer] = {
    "trainer": Peer("bench.peers.trainer:train", "a plain Hugging Face Trainer"),
    "authors": Peer("bench.peers.authors:train", "the loop of the paper's authors"),
}
