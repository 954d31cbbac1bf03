"""What was proposed as a version: probed, measured, with a few answers to compare with later."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from lmaas.broker_config.errors import DataError, ModelDamaged
from lmaas.broker_config.messages import UNSURE, Item
from lmaas.training.importing.probing import drafted, probed
from lmaas.training.importing.proposal import Proposal
from lmaas.training.measuring import measured
from lmaas.training.quantizing import quantized
from lmaas.training.recipe import Quantize
from lmaas.training.versions import checksums, new_version, write_manifest
from lmaas.workers.heads import DECIMALS
from lmaas.workers.manifest import Golden, Manifest
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.runtime import Runtime

#: Answers that are kept, of items of at most so many bytes.
GOLDEN: Final = 4
GOLDEN_BYTES: Final = 16 * 1024
#: Items that a model is timed with, where the user gives none: texts of so many words at most.
_TIMED: Final = 64
_WORDS: Final = 200
_SENTENCE: Final = (
    "the order that I made last week has not come yet and nobody answers when I call them about "
    "my money so please tell me what to do now because this is a really good film with very bad "
    "music"
)


def add(
    proposal: Proposal,
    name: str,
    examples: Sequence[Item],
    *,
    out_root: Path,
    others: Sequence[Path] = (),
    min_score: float = 0.0,
    quantize: Quantize | None = None,
) -> tuple[Path, Proposal]:
    """Write `out_root/name/N`, all of it or nothing; and what was found out of the model.

    Below `min_score` the model will answer `unsure`. What `quantize` asks for is compared on the
    examples, of which there is one at least then. Raises DataError, or TrainingError when that
    loses too much.
    """
    _check_labels(proposal, min_score)
    proposal, runtime = probed(proposal, examples)
    samples = list(examples) or _made_up(runtime)
    proposal, draft = _measured(proposal, samples, examples, quantize)
    kept = [*examples, *runtime.preprocessor.examples, *samples[-2:]]
    try:
        with new_version(name, out_root, others) as (built, place):
            for file, content in proposal.files.items():
                (built / file).parent.mkdir(parents=True, exist_ok=True)
                (built / file).write_bytes(content)
            manifest = msgspec.structs.replace(
                draft,
                name=name,
                version=place.name,
                min_score=min_score,
                code_version=version("lmaas"),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                files=checksums(built),
                training=proposal.record,
            )
            golden = _golden(built, manifest, proposal, kept)
            write_manifest(built, msgspec.structs.replace(manifest, golden=golden))
    except OSError as error:
        where = out_root / name
        raise DataError(f"{where}: cannot import there: {error.strerror}") from error
    return place, proposal


def _check_labels(proposal: Proposal, min_score: float) -> None:
    """Raises DataError when an answer could not be told from one of the labels."""
    independent = proposal.head.get("meaning") == "independent"
    if min_score and UNSURE in proposal.labels and not independent:
        raise DataError(
            f"{proposal.path}: a label is called {UNSURE!r}, which is what --min-score answers "
            "below a score; give that label another name with --labels, or leave --min-score out"
        )


def _measured(
    proposal: Proposal, samples: Sequence[Item], examples: Sequence[Item], quantize: Quantize | None
) -> tuple[Proposal, Manifest]:
    """Its manifest as far as it is known before it has a place: by the samples measured, and
    quantized where that is asked for, by the examples. Raises TrainingError.
    """
    whole = drafted(proposal)
    draft = measured(whole, samples).in_(whole.manifest)
    if not quantize:
        return proposal, draft
    smaller, found = quantized(dataclasses.replace(whole, manifest=draft), examples, quantize)
    proposal = msgspec.structs.replace(
        proposal,
        files=smaller.contents,
        notes=[*proposal.notes, str(found)],
        record={**proposal.record, "quantized": msgspec.to_builtins(found)},
    )
    return proposal, smaller.manifest


def _golden(
    folder: Path, manifest: Manifest, proposal: Proposal, items: Sequence[Item]
) -> list[Golden]:
    """Of the version as a worker will have it."""
    try:
        runtime = Runtime(ModelVersion(folder, manifest, proposal.files))
    except ModelDamaged as error:
        raise DataError(f"{proposal.path}: {error}") from error
    items = [item for item in items if item.size <= GOLDEN_BYTES][:GOLDEN]
    scores = runtime.scores(items).astype(float).round(DECIMALS).tolist()
    return [Golden(item=item, scores=row) for item, row in zip(items, scores, strict=True)]


def _made_up(runtime: Runtime) -> list[Item]:
    """Items to measure with: texts of many lengths, or the kind's own examples."""
    own = list(runtime.preprocessor.examples)
    if own[0].text is None:
        return own * (_TIMED // 4 // len(own))
    random_ = random.Random(17)
    pairs = own[0].text_pair is not None
    return [
        Item(
            id=str(number),
            text=_text(random_),
            text_pair=_text(random_) if pairs else None,
        )
        for number in range(_TIMED)
    ]


def _text(random_: random.Random) -> str:
    """Mostly short, as what people write is."""
    words = round(_WORDS ** random_.random()) + 2
    return " ".join(random_.choices(_SENTENCE.split(), k=words))
