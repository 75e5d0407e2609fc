"""The search for a Model's hyperparameters: what it may cost, and what it found."""

from typing import Annotated

from pydantic import Field

from pipewright.api.meta import Base, Between, Duration


class Search(Base):
    """What a search may cost; what it chooses by is the part of the window that is learned from."""

    trials: Annotated[int, Field(ge=2, le=200)] = 20
    """How many settings are tried at most, the defaults first; with Ray Tune where cores are free."""
    timeout: Annotated[Duration, Between("10s", "23h")] | None = None
    """How long it may go on, shorter than the deadline; half of the deadline when absent."""


class FoundHyperparameters(Base):
    """The settings with which a search ended."""

    num_leaves: Annotated[int, Field(ge=2, le=64)] | None = None
    """The most leaves that one tree may have."""
    learning_rate: Annotated[float, Field(ge=0.001, le=0.5)] | None = None
    """How much each tree corrects those before it."""
    min_child: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """The fewest runs that a leaf may stand for."""
    lambda_l2: Annotated[float, Field(ge=0, le=1000)] | None = None
    """How much leaves are drawn towards zero."""
    feature_fraction: Annotated[float, Field(ge=0.05, le=1)] | None = None
    """The share of the features that each tree may look at."""


class SearchResult(Base):
    """What a search found."""

    trials: Annotated[int, Field(ge=1, le=1000)]
    """How many settings were judged, the defaults among them; fewer than asked for when the time was over."""
    loss: Annotated[float, Field(ge=0, le=100)]
    """The log loss of the best settings on runs of the learned part that each model had not seen."""
    default_loss: Annotated[float, Field(ge=0, le=100)]
    """The same of the defaults, which are kept when nothing is better."""
    hyperparameters: FoundHyperparameters = FoundHyperparameters()
    """The best settings, with which the version was trained."""
