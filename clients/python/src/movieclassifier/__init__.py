"""Client of the movieclassifier services.

`Classifier` and `AsyncClassifier` predict genres, and `Encoder` (with numpy) turns texts into vectors.
`movieclassifier.spark` classifies a DataFrame of Spark. All failures of the services are a `ServiceError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from movieclassifier._channel import Tls
from movieclassifier.aio import AsyncClassifier
from movieclassifier.client import Classifier
from movieclassifier.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InternalError,
    InvalidRequest,
    RateLimited,
    ServiceError,
    Unauthenticated,
    Unavailable,
)
from movieclassifier.results import Classification, Contribution, GenreScore, Model, Movie, Segment

if TYPE_CHECKING:
    from movieclassifier.vectors import Encoder as Encoder
    from movieclassifier.vectors import EncoderInfo as EncoderInfo
    from movieclassifier.vectors import Vectors as Vectors

# Without what needs numpy, so that `import *` works without it, too.
__all__ = [
    "AsyncClassifier",
    "Classification",
    "Classifier",
    "Contribution",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "GenreScore",
    "InternalError",
    "InvalidRequest",
    "Model",
    "Movie",
    "RateLimited",
    "Segment",
    "ServiceError",
    "Tls",
    "Unauthenticated",
    "Unavailable",
]


def __getattr__(name: str) -> Any:
    """Imports what needs numpy when it is first used."""
    if name in ("Encoder", "EncoderInfo", "Vectors"):
        from movieclassifier import vectors

        return getattr(vectors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
