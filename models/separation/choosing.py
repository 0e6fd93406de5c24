"""From names of models and bags to the members of a separator, each with its share in every stem."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stemwright.core.errors import OptionError
from stemwright.models.registry.store import Installed, InstalledModel, ModelStore, open_model
from stemwright.models.separation.members import Member
from stemwright.models.sessions.opening import SessionOptions, open_session

ModelChoice = str | Path | Installed
"""A model by name, by path, or already opened in the registry."""


def common_stems(models: Sequence[Installed]) -> tuple[str, ...]:
    """Stems that all models have, in the order of the first.

    Raises
    ------
    OptionError
        There is none.
    """
    stems = tuple(
        stem for stem in models[0].manifest.stems if all(stem in other.manifest.stems for other in models)
    )
    if not stems:
        raise OptionError(
            f"{' and '.join(model.name for model in models)} have no stem in common",
            "average models that give the same stems",
        )
    return stems


def open_members(
    choices: Sequence[ModelChoice],
    weights: Sequence[float] | None,
    store: ModelStore | None,
    options: SessionOptions,
) -> tuple[tuple[Member, ...], tuple[str, ...]]:
    """Find models and bags and weigh their members.

    Parameters
    ----------
    choices
        Models to average; a bag stands for its members.
    weights
        Weight of each in the average; None for equal weights.
    store
        Where names are looked up; None for the user's store.
    options
        For the sessions, which are opened only when they are needed.

    Returns
    -------
    tuple
        The members, and the stems that can be had.

    Raises
    ------
    OptionError
        No models, weights that make no average, or models without a common stem.
    ModelNotFoundError, ModelFileError
        From the registry.
    """
    if not choices:
        raise OptionError("no model was named", "name at least one")
    factors = [1.0] * len(choices) if weights is None else list(weights)
    usable = all(math.isfinite(factor) and factor >= 0 for factor in factors) and sum(factors) > 0
    if len(factors) != len(choices) or not usable:
        raise OptionError(
            f"{len(factors)} weights {factors} do not make an average of {len(choices)} models",
            "give one weight of at least 0 for each model, not all of them 0",
        )
    models = [open_model(c, store) if isinstance(c, str | Path) else c for c in choices]
    alone = models[0]
    if len(models) == 1 and isinstance(alone, InstalledModel) and alone.manifest.stem_kind == "query":
        return (_member(alone, {}, options),), ()
    stems = common_stems(models)
    gains: dict[Path, dict[str, float]] = {}
    owners: dict[Path, InstalledModel] = {}
    for model, factor in zip(models, factors, strict=True):
        for owner, share in _shares(model, stems):
            # A model that is named twice runs once, with both shares.
            owners[owner.graph_path] = owner
            sums = gains.setdefault(owner.graph_path, dict.fromkeys(stems, 0.0))
            for stem, gain in share.items():
                sums[stem] += gain * factor / sum(factors)
    return tuple(_member(owner, gains[path], options) for path, owner in owners.items()), stems


def _shares(model: Installed, stems: tuple[str, ...]) -> Iterator[tuple[InstalledModel, dict[str, float]]]:
    """Yield the single models behind a model or bag and their shares in its stems."""
    if isinstance(model, InstalledModel):
        yield model, dict.fromkeys(stems, 1.0)
        return
    for member in model.members:
        share = {}
        for index, stem in enumerate(model.manifest.stems):
            if stem in stems:
                share[stem] = member.weights[index] / sum(other.weights[index] for other in model.members)
        yield member.model, share


def _member(model: InstalledModel, gains: Mapping[str, float], options: SessionOptions) -> Member:
    return Member(
        name=model.name,
        manifest=model.manifest,
        gains=gains,
        opener=lambda: open_session(model, options),
    )
