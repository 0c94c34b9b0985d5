"""What callers send and receive: plain frozen objects that can be compared, hashed and pickled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from movieclassifier.classifier.v1 import classifier_service_pb2 as wire


def not_a_text(texts: object) -> None:
    """Rejects one text in place of many, because a string is an iterable of its letters. Raises TypeError."""
    if isinstance(texts, str | bytes):
        raise TypeError(f"expected an iterable, such as a list, found one {type(texts).__name__}")


@dataclass(frozen=True, slots=True)
class Movie:
    """A movie to classify."""

    overview: str
    """What happens in the movie. Must not be blank."""
    title: str = ""
    """May be empty."""


# A named tuple, because it is made 20 times for each movie, and a frozen dataclass takes three times as long to make.
class GenreScore(NamedTuple):
    """One genre's probability and threshold, both between 0 and 1. Labels of other models count as genres, too."""

    label: str
    probability: float
    threshold: float
    """The genre is predicted if `probability > threshold`: `min_probability` if that was passed, otherwise the model's.
    With `top_k` alone, no threshold applies."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one segment contributes to one genre."""

    label: str
    contribution: float
    """The probability with the segment minus the probability without it, between -1 and 1."""
    probability_without: float


@dataclass(frozen=True, slots=True)
class Segment:
    """The title, or one sentence of the overview, and what it contributes to each predicted genre."""

    source: Literal["title", "overview"]
    text: str
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Classification:
    """The genres of one movie."""

    genres: tuple[GenreScore, ...]
    """The predicted genres, most probable first; may be empty."""
    model_version: str
    truncated: bool
    """Whether the text was longer than the encoder reads, so that its end was ignored."""
    scores: tuple[GenreScore, ...] = ()
    """All genres in the model's order, if they were asked for."""
    explanation: tuple[Segment, ...] = ()
    """The parts of the text, if they were asked for and there is more than one."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the predicted genres, most probable first."""
        return tuple(genre.label for genre in self.genres)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Probabilities of all genres in the model's order; empty unless scores were asked for."""
        return tuple(score.probability for score in self.scores)


@dataclass(frozen=True, slots=True)
class Model:
    """The model that the service runs."""

    version: str
    """Derived from the content of the model file."""
    labels: tuple[str, ...]
    """The genres, in the same order as `thresholds`."""
    thresholds: tuple[float, ...]
    threshold_rule: str
    encoder_id: str
    encoder_version: str
    encoder_fingerprint: str
    """SHA-256 of the encoder bundle that the model was fitted on, in hexadecimal digits."""
    input_template: str
    """How title and overview become the text that is encoded."""
    max_batch_size: int
    """Maximum number of movies in one batch."""
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Metrics measured when the model was fitted, such as `validation_micro_f1`."""


def _scores(scores: Iterable[wire.GenreScore]) -> tuple[GenreScore, ...]:
    return tuple([GenreScore(score.label, score.probability, score.threshold) for score in scores])


def _segment(segment: wire.Segment) -> Segment:
    return Segment(
        "title" if segment.source == wire.SOURCE_TITLE else "overview",
        segment.text,
        tuple(Contribution(c.label, c.contribution, c.probability_without) for c in segment.contributions),
    )


def classification_of(response: wire.ClassifyResponse) -> Classification:
    """Converts a response of the service."""
    return Classification(
        _scores(response.genres),
        response.model_version,
        response.truncated,
        _scores(response.scores),
        tuple(_segment(segment) for segment in response.explanation.segments)
        if response.HasField("explanation")
        else (),
    )


def model_of(response: wire.GetModelResponse) -> Model:
    """Converts a response of the service."""
    return Model(
        response.model_version,
        tuple(response.labels),
        tuple(response.thresholds),
        response.threshold_rule,
        response.encoder_id,
        response.encoder_version,
        response.encoder_fingerprint,
        response.input_template,
        response.max_batch_size,
        dict(response.metrics),
    )
