"""Why a job failed, in words: what its log shows (taxonomy), and what logs like it turned out to be (a
model).

The taxonomy names category, owner and recipe, and needs no data. The model learns from the tenant's own
labelled failures: passed when run again on the same commit, or called so by people. It reads the log's masked
words, its line templates (Drain), the taxonomy's findings and the job's name, and says how likely each label
is. The two are combined by `judge`; where they do not suffice it says `unsure`.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Literal

from scipy import sparse

from ml import taxonomy, templates
from ml.arrays import Floats
from ml.taxonomy import Kind, Owner
from ml.text import Logistic, TfIdf

FORMAT = "pipewright-causes/1"
TRANSIENT = "transient"
"""The label of failures that pass when they are run again on the same commit."""
LASTING = "lasting"
"""The label of the others."""
SURE = 0.7
"""From this probability on the model's word counts."""

_WORD_LINES, _TEMPLATE_LINES = 80, 40
_BLOCKS = {"words": 1.0, "templates": 1.0, "signs": 1.0, "facts": 0.5}
"""The kinds of terms and the length of each one's row: few facts must not drown many words."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed job."""

    log: str
    job: str = ""
    facts: tuple[str, ...] = ()
    """What else is known of it, as sentences: equal facts must read equal."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The answer. `reasons` has the weightiest first."""

    kind: Kind | Literal["unsure"]
    category: str | None
    owner: Owner | None
    recipe: str | None
    transient: float | None
    """P(it passes when run again); None where neither model nor taxonomy can say."""
    reasons: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CauseModel:
    """A fitted model of labels."""

    drain: templates.Drain
    blocks: dict[str, TfIdf]
    logistic: Logistic

    @classmethod
    def fit(cls, failures: Sequence[Failure], labels: Sequence[str], *, c: float = 5.0) -> "CauseModel":
        """Fit failures, oldest first, to their labels. `c` is the inverse of the penalty."""
        drain = templates.Drain()
        for failure in failures:
            for line in taxonomy.lines(failure.log)[-_TEMPLATE_LINES:]:
                drain.learn(line)
        terms = [_terms(failure, drain) for failure in failures]
        least = 2 if len(failures) >= 50 else 1
        blocks = {
            name: TfIdf.fit([each[name] for each in terms], least=least, sublinear=True) for name in _BLOCKS
        }
        return cls(drain=drain, blocks=blocks, logistic=Logistic.fit(_rows(blocks, terms), labels, c=c))

    @property
    def labels(self) -> Sequence[str]:
        """The labels, in the order of the probabilities."""
        return self.logistic.classes

    def probabilities(self, failures: Sequence[Failure]) -> Floats:
        """P(label) of each failure, one row each."""
        return self.logistic.probabilities(
            _rows(self.blocks, [_terms(failure, self.drain) for failure in failures])
        )

    def reasons(self, failure: Failure, label: str, *, most: int = 2) -> list[str]:
        """What speaks most for `label` in this failure, in words."""
        if len(self.labels) < 2:
            return []
        row = _rows(self.blocks, [_terms(failure, self.drain)])
        weights = self.logistic.weights
        if weights.shape[1] == 1:
            weights = weights[:, 0] * (1 if label == self.labels[1] else -1)
        else:
            weights = weights[:, self.labels.index(label)] - weights.mean(axis=1)
        names = [(block, term) for block, known in self.blocks.items() for term in known.idf]
        order = sorted(
            zip((row.data * weights[row.indices]).tolist(), row.indices.tolist(), strict=True), reverse=True
        )
        said = [self._sentence(*names[column]) for value, column in order if value > 0]
        return list(dict.fromkeys(filter(None, said)))[:most]

    def _sentence(self, block: str, term: str) -> str | None:
        if block == "templates":
            template = self.drain.templates[int(term)]
            return f"its log has a line like “{template.text[:160]}”" if len(template.words) > 2 else None
        if block == "signs":
            return f"its log shows {term}" if term in taxonomy.categories() else None
        return term if block == "facts" else None

    def to_json(self) -> str:
        """The model as compact JSON."""
        state = {
            "format": FORMAT,
            "drain": json.loads(self.drain.to_json()),
            "blocks": {name: dict(block.idf) for name, block in self.blocks.items()},
            "logistic": self.logistic.to_state(),
        }
        return json.dumps(state, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "CauseModel":
        """The model of `to_json`. Raises ValueError where the text is not one."""
        try:
            state: dict[str, Any] = json.loads(text)
            if state["format"] != FORMAT:
                raise ValueError(f"format is {state['format']!r}")
            blocks = {name: TfIdf(state["blocks"][name], sublinear=True) for name in _BLOCKS}
            logistic = Logistic.from_state(state["logistic"])
            if len(logistic.weights) != sum(len(block.idf) for block in blocks.values()):
                raise ValueError("weights and terms differ in number")
            drain = templates.Drain.from_json(json.dumps(state["drain"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not a model of causes of {FORMAT}: {error}") from None
        return cls(drain=drain, blocks=blocks, logistic=logistic)


def judge(failure: Failure, model: CauseModel | None = None) -> Cause:
    """Category, owner and recipe by the taxonomy; whether it passes again by the model where there is one.

    A model of the labels `TRANSIENT` and `LASTING` that is `SURE` overrules the taxonomy about transience:
    what looks like a failed test and passes again is `flaky`. Without a finding the kind stays `unsure`.
    """
    found = taxonomy.findings(failure.log)
    category = found[0].category if found else None
    reasons = [_evidence(found[0])] if found else ["no known pattern is in the end of its log"]
    kind: Kind | Literal["unsure"] = category.kind if category else "unsure"
    transient = (0.8 if category.transient else 0.1) if category else None
    if model is not None and set(model.labels) == {TRANSIENT, LASTING}:
        transient = float(model.probabilities([failure])[0, list(model.labels).index(TRANSIENT)])
        if max(transient, 1 - transient) >= SURE:
            label = TRANSIENT if transient >= SURE else LASTING
            share = f"{max(transient, 1 - transient):.0%}"
            again = "passed" if label == TRANSIENT else "failed"
            because = "; ".join(model.reasons(failure, label))
            reasons.append(
                f"failures like it {again} when run again ({share})" + (f": {because}" if because else "")
            )
            if label == TRANSIENT and kind == "code":
                kind = "flaky"
        elif category is None:
            reasons.append("failures like it passed and failed when run again")
    return Cause(
        kind=kind,
        category=category.name if category else None,
        owner=category.owner if category else None,
        recipe=category.recipe if category else None,
        transient=transient,
        reasons=tuple(reasons),
    )


def _evidence(finding: taxonomy.Finding) -> str:
    verb = "hints at" if finding.hint else "shows"
    return f"the log {verb} {finding.category.name}: “{finding.line[:200]}”"


def _terms(failure: Failure, drain: templates.Drain) -> dict[str, list[str]]:
    lines = taxonomy.lines(failure.log)
    found = taxonomy.findings(failure.log)
    numbers = [drain.match(line) for line in lines[-_TEMPLATE_LINES:]]
    if found:
        first = found[0].category
        signs = [first.name, f"kind {first.kind}", f"transient {first.transient}"]
        signs += [f"also {each.category.name}" for each in found]
    else:
        signs = ["nothing known"]
    return {
        "words": [word.lower() for line in lines[-_WORD_LINES:] for word in templates.tokens(line)],
        "templates": [str(number) for number in numbers if number is not None],
        "signs": signs,
        "facts": [f"it is the job {failure.job}", *failure.facts] if failure.job else list(failure.facts),
    }


def _rows(blocks: dict[str, TfIdf], terms: Sequence[dict[str, list[str]]]) -> sparse.csr_array:
    parts = [
        _BLOCKS[name] * block.transform([each[name] for each in terms]) for name, block in blocks.items()
    ]
    return sparse.csr_array(sparse.hstack(parts, format="csr"))
