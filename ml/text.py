"""Logistic regression over words: TF-IDF and an L2-penalised fit, both of the usual definition.

TF-IDF: Salton and Buckley, Information Processing and Management 24 (1988), with smoothed document
frequencies and rows of length one. Logistic regression with two or more classes: Bishop, Pattern Recognition
and Machine Learning (2006), §4.3; the sum of the losses times `c` plus half the squared weights, the
intercepts free, by L-BFGS. On the same words this is what scikit-learn's TfidfVectorizer and
LogisticRegression compute with their defaults, so the baseline that goes by those names needs no further
dependency.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse, special

from ml.arrays import Floats

_WORD = re.compile(r"\b\w\w+\b")


def words(text: str) -> list[str]:
    """Lower-case words of two characters or more."""
    return _WORD.findall(text.lower())


@dataclasses.dataclass(frozen=True, slots=True)
class TfIdf:
    """Which terms count, and how much: term → inverse document frequency, in the order of the columns."""

    idf: Mapping[str, float]
    sublinear: bool = False
    """Whether a term counts 1 + log(times) instead of as often as it comes."""

    @classmethod
    def fit(
        cls,
        documents: Sequence[Sequence[str]],
        *,
        least: int = 1,
        most: int | None = None,
        sublinear: bool = False,
    ) -> "TfIdf":
        """Terms of at least `least` documents; of these the `most` frequent ones, ties by name."""
        seen = Counter(term for document in documents for term in set(document))
        kept = sorted((term for term, count in seen.items() if count >= least), key=lambda t: (-seen[t], t))
        total = len(documents)
        return cls(
            {term: float(np.log((1 + total) / (1 + seen[term])) + 1) for term in sorted(kept[:most])},
            sublinear,
        )

    def transform(self, documents: Sequence[Sequence[str]]) -> sparse.csr_array:
        """One row of length one for each document; of zeros where no term is known."""
        place = {term: column for column, term in enumerate(self.idf)}
        weights = np.array(list(self.idf.values()))
        rows, columns, values = [], [], []
        for row, document in enumerate(documents):
            counts = Counter(place[term] for term in document if term in place)
            found = np.fromiter(counts.values(), np.float64, len(counts))
            value = (1 + np.log(found) if self.sublinear else found) * weights[list(counts)]
            rows += [row] * len(counts)
            columns += list(counts)
            values += (value / (np.linalg.norm(value) or 1.0)).tolist()
        return sparse.csr_array(
            (values, (rows, columns)), shape=(len(documents), len(place)), dtype=np.float64
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Logistic:
    """A fitted model: `weights[column][output]`, one output for two classes, else one for each."""

    classes: Sequence[str]
    weights: Floats
    intercepts: Floats

    @classmethod
    def fit(cls, x: sparse.csr_array, labels: Sequence[str], *, c: float = 1.0) -> "Logistic":
        """Fit rows of `x` to their labels; with one class only, that class is always the answer."""
        from scipy import optimize  # 25 MB that who only asks a model does without

        classes = sorted(set(labels))
        columns = x.shape[1]
        outputs = len(classes) if len(classes) > 2 else 1
        truth = np.array([[label == each for each in classes] for label in labels], dtype=np.float64)
        back = x.T.tocsr()

        def loss(flat: Floats) -> tuple[float, Floats]:
            weights = flat[: columns * outputs].reshape(columns, outputs)
            scores = _scores(x @ weights + flat[columns * outputs :])
            logs = scores - special.logsumexp(scores, axis=1, keepdims=True)
            slope = c * (np.exp(logs) - truth)[:, -outputs:]
            value = -c * float((logs * truth).sum()) + 0.5 * float((weights**2).sum())
            return value, np.concatenate([(back @ slope + weights).ravel(), slope.sum(axis=0)])

        start = np.zeros((columns + 1) * outputs)
        if len(classes) > 1:
            options = {"maxiter": 2000, "gtol": 1e-5}
            start = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
        split = columns * outputs
        return cls(classes, start[:split].reshape(columns, outputs), start[split:])

    def probabilities(self, x: sparse.csr_array) -> Floats:
        """P(class) for each row of `x`, in the order of `classes`."""
        if len(self.classes) == 1:
            return np.ones((x.shape[0], 1))
        scores = _scores(x @ self.weights + self.intercepts)
        return np.asarray(special.softmax(scores, axis=1), dtype=np.float64)

    def to_state(self) -> dict[str, Any]:
        """What `from_state` reads back, ready for JSON."""
        return {
            "classes": list(self.classes),
            "weights": self.weights.tolist(),
            "intercepts": self.intercepts.tolist(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Logistic":
        """The model of `to_state`."""
        outputs = len(state["intercepts"])
        return cls(
            list(state["classes"]),
            np.array(state["weights"], dtype=np.float64).reshape(-1, outputs),
            np.array(state["intercepts"], dtype=np.float64),
        )


def _scores(scores: Floats) -> Floats:
    """One score for each class: a single output is that of the second class, against nought."""
    return np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores
