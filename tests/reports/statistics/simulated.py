"""Answers of simulated models: every seed answers the same questions, some of them hard."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm

from reports.statistics.intervals import Items, Scores

RATE = 0.55
"""What the simulated models score."""


def answers(
    draw: np.random.Generator,
    *,
    seeds: int,
    items: int,
    seed_sd: float,
    ease: Items | None = None,
    shared: float = 1.0,
    own: float = 0.5,
) -> Items:
    """Right and wrong, shape (seeds, items).

    An answer is right where the question's ease, the seed's skill and chance add up to more than
    0, all of them normal.

    Args:
        draw: where chance comes from.
        seeds: trainings.
        items: questions.
        seed_sd: standard deviation of the seeds' scores, a fraction.
        ease: of each question; drawn if it is not given.
        shared: standard deviation of the questions' ease.
        own: standard deviation of chance, anew for each seed and question.
    """
    scale = math.hypot(shared, own)
    middle = scale * norm.ppf(RATE)
    # So many points of score as a step of skill is worth at the middle.
    slope = norm.pdf(middle / scale) / scale
    skill = draw.normal(0, seed_sd / slope, seeds)
    ease = draw.normal(0, shared, items) if ease is None else ease
    chance = draw.normal(0, own, (seeds, items))
    return np.asarray(middle + ease + skill[:, None] + chance > 0, dtype=float)


def true_rate(seed_sd: float, *, shared: float = 1.0, own: float = 0.5) -> float:
    """What all seeds and questions there could be would score."""
    scale = math.hypot(shared, own)
    middle = scale * norm.ppf(RATE)
    slope = norm.pdf(middle / scale) / scale
    return float(norm.cdf(middle / math.hypot(scale, seed_sd / slope)))


def scores(found: Items, documents: str = "questions") -> Scores:
    """The answers as a report has them."""
    by_item = dict(enumerate(found))
    values = {seed: float(each.mean()) for seed, each in by_item.items()}
    return Scores(values=values, by_item=by_item, documents=documents)
