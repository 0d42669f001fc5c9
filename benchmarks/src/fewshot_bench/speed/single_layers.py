"""The parts of a measurement that need no model: single layers, and the optimizer alone."""

import gc

from fewshot_bench.speed.layers import VIT_B
from fewshot_bench.speed.one_layer import LAYER_VARIANTS, make_layer
from fewshot_bench.speed.optimizer_alone import measure_optimizer
from fewshot_bench.speed.pieces import RANKS, SHAPE, measure_pieces
from fewshot_bench.speed.record import OptimizerRow, PieceRow, ThresholdRow, TransientRow
from fewshot_bench.speed.session import Session
from fewshot_bench.speed.snell_models import SPARSITY
from fewshot_bench.speed.threshold import SHAPES, measure_threshold
from fewshot_bench.speed.transient import TOKENS, measure_transient
from fewshot_bench.speed.variants import VARIANTS, Choice

__all__ = [
    "LAYERS",
    "measure_optimizers",
    "measure_piecewise",
    "measure_thresholds",
    "measure_transients",
    "on_layers",
    "with_density",
]

LAYERS = ((768, 768), (3072, 768), (768, 3072))
"""Outputs and inputs of ViT-B's layers."""


def measure_optimizers(session: Session) -> None:
    """Measure the optimizers without a model.

    Args:
        session: Takes the rows.
    """
    for choice in with_density(session.chosen):
        name = f"optimizer of {choice.label}"
        if not session.has("optimizer", variant=choice.variant, density=choice.density):
            found = session.attempt(name, measure_optimizer, choice, VIT_B, session.options.device)
            if found is not None:
                facts = choice.variant, choice.density, len(VIT_B), found.entries
                costs = found.step, found.redraw, found.operations, found.waits
                row = OptimizerRow(*facts, *costs, found.bytes_per_entry)
                session.add("optimizer", [row])
            gc.collect()
        session.say(name)


def measure_transients(session: Session) -> None:
    """Measure what single layers hold for a moment.

    Args:
        session: Takes the rows.
    """
    for choice in on_layers(session.chosen):
        for outputs, inputs in LAYERS:
            name = f"transient of {choice.label}, {outputs}x{inputs}"
            if not session.has("transient", variant=choice.variant, outputs=outputs, inputs=inputs):
                found = session.attempt(name, measure_transient, choice, outputs, inputs)
                if found is not None:
                    facts = choice.variant, outputs, inputs, TOKENS
                    row = TransientRow(*facts, found.forward, found.backward)
                    session.add("transient", [row])
            session.say(name)


def measure_thresholds(session: Session) -> None:
    """Measure the threshold of two matrices.

    Args:
        session: Takes the rows.
    """
    options = session.options
    for shape in SHAPES:
        name = f"threshold, {shape[0]}x{shape[1]}"
        if not session.has("threshold", outputs=shape[0], inputs=shape[1]):
            arguments = *shape, options.rounds, options.device
            found = session.attempt(name, measure_threshold, *arguments) or []
            rows = [
                ThresholdRow(one.name, *shape, SPARSITY, one.seconds, one.survivors, one.differing)
                for one in found
            ]
            session.add("threshold", rows)
        session.say(name)


def measure_piecewise(session: Session) -> None:
    """Measure the pieces of a layer's step at several ranks.

    Args:
        session: Takes the rows.
    """
    options = session.options
    for r in RANKS:
        name = f"pieces, r {r}"
        if not session.has("pieces", r=r):
            layers = []
            for choice in on_layers(session.chosen):
                about = f"pieces of {choice.label}, r {r}"
                layer = session.attempt(
                    about, lambda c, r: make_layer(c, *SHAPE, r=r, device=options.device), choice, r
                )
                layers += [layer] * (layer is not None)
            found = session.attempt(name, measure_pieces, layers, options.rounds, options.device)
            rows = [
                PieceRow(one.piece, one.variant, *SHAPE, r, one.seconds, one.bytes)
                for one in found or []
            ]
            session.add("pieces", rows)
        session.say(name)


def with_density(chosen: list[Choice]) -> list[Choice]:
    """Pick one variant per optimizer: the memory levels share theirs.

    Args:
        chosen: All variants.

    Returns:
        Those whose optimizer is measured alone.
    """
    same = ("so-low", "so-minimal")
    return [c for c in chosen if VARIANTS[c.variant].has_density and c.variant not in same]


def on_layers(chosen: list[Choice]) -> list[Choice]:
    """Pick the variants that are measured on single layers.

    Args:
        chosen: All variants.

    Returns:
        Those of SNELL at the sparsity of the comparison.
    """
    return [choice for choice in chosen if choice.variant in LAYER_VARIANTS]
