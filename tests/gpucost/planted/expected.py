"""What each plant does to the figures of the block, eagerly and compiled.

A number is exact; "+" and "-" are directions, of what depends on shapes.  A figure of
:data:`FIGURES` that a row does not name stays as it was.
"""

FIGURES = (
    "kernels",
    "bytes",
    "flops",
    "flops.f32",
    "flops.b16",
    "flops.i8",
    "casts",
    "layout",
    "opaque",
    "attention",
    "attention.flash",
    "attention.efficient",
    "graphs",
    "breaks",
    "h2d",
)
NOTHING = {}
AGAINST = {"int8_but_one": "int8"}
"""What a plant is held against where that is not the block as it is."""
TO_FLOAT32 = {"flops.f32": "+", "flops.b16": "-"}
TO_INT8 = {"flops.i8": "+", "flops.b16": "-"}
FROM_INT8 = {"flops.i8": "-", "flops.b16": "+"}
NOT_FLASH = {"attention.flash": -1, "attention.efficient": 1}

EAGER = {
    "wrapped": NOTHING,
    "refactored": NOTHING,
    "already_contiguous": NOTHING,
    "graph_break": NOTHING,
    "input_not_channels_last": NOTHING,  # group norm has made it so in eager mode anyway
    "transposed": {"kernels": 1, "bytes": "+", "layout": 1},
    "there_and_back": {"kernels": 2, "bytes": "+", "casts": 2},
    "float32_linear": {"kernels": 3, "bytes": "+", "casts": 3, **TO_FLOAT32},
    "float32_norm": {"kernels": 4, "bytes": "+", "casts": 4},
    "opaque_norm": {"kernels": -1, "bytes": "-", "layout": -1, "opaque": 1},
    "one_more_norm": {"kernels": 1, "bytes": "+"},
    "plain_attention": {
        "kernels": 6,
        "bytes": "+",
        "layout": 4,
        "attention": -1,
        "attention.flash": -1,
    },
    "masked_attention": {"kernels": 1, "bytes": "+", **NOT_FLASH},
    # Fewer copies before group norms; cuDNN's own copies are modelled, and more.
    "weights_not_channels_last": {"kernels": -2, "bytes": "-", "layout": -2},
    "all_in_usual_order": {"kernels": -3, "bytes": "-", "layout": -3},
    "fused_projections": {"kernels": -3, "bytes": "-"},
    "gelu_by_hand": {"kernels": 4, "bytes": "+"},
    "table_on_the_cpu": {"kernels": 3, "bytes": "+", "casts": 1, "h2d": 1},
    # How many kernels is torchao's: 294 and 24 with 0.17, 246 and 20 with 0.15.
    "int8": {"kernels": "+", "bytes": "+", "casts": "+", "layout": 1, **TO_INT8},
    "int8_but_one": {"kernels": "-", "bytes": "-", "casts": "-", **FROM_INT8},
    "no_fusion": {"kernels": 1, "bytes": "+", "opaque": 1},
    "guidance_twice": {
        "kernels": 56,
        "bytes": "+",
        "layout": 5,
        "attention": 2,
        "attention.flash": 2,
    },
    "tile_copies": {"kernels": 3, "bytes": "+", "layout": 2},
    "rotary_promotes": {"kernels": "+", "bytes": "+", "casts": "+", **TO_FLOAT32, **NOT_FLASH},
    "context_twice": {"kernels": 5, "bytes": "+", "flops": "+", "flops.b16": "+"},
}
COMPILED = {
    "wrapped": NOTHING,
    "refactored": NOTHING,
    "already_contiguous": NOTHING,
    "input_not_channels_last": NOTHING,
    "there_and_back": NOTHING,  # Inductor takes them out
    "transposed": NOTHING,  # fused away: another hash
    "float32_norm": NOTHING,  # the same
    "gelu_by_hand": NOTHING,  # the same
    "graph_break": {"kernels": 1, "bytes": "-", "graphs": 2, "breaks": 1},  # before, in, behind
    "float32_linear": {"kernels": 3, "bytes": "+", "casts": 2, **TO_FLOAT32},
    "opaque_norm": {"kernels": -2, "bytes": "+", "opaque": 1},
    "one_more_norm": {"kernels": 1, "bytes": "+"},
    "plain_attention": {
        "kernels": 7,
        "bytes": "+",
        "layout": 4,
        "attention": -1,
        "attention.flash": -1,
    },
    "masked_attention": {"kernels": 1, "bytes": "+", **NOT_FLASH},
    "weights_not_channels_last": {"kernels": 4, "bytes": "+", "layout": 4},
    "all_in_usual_order": {"kernels": 5, "bytes": "+", "layout": 4},
    "fused_projections": {"kernels": -3, "bytes": "-"},
    "table_on_the_cpu": {"kernels": 1, "bytes": "+"},  # a constant, copied as it is compiled
    "int8": {"kernels": "+", "bytes": "+", **TO_INT8},
    "int8_but_one": {"kernels": "-", "bytes": "-", **FROM_INT8},
    "no_fusion": {"kernels": 2, "bytes": "+", "opaque": 1},
    "guidance_twice": {"kernels": 46, "bytes": "+", "attention": 2, "attention.flash": 2},
    "tile_copies": {"kernels": 1, "bytes": "+"},
    "rotary_promotes": {"kernels": "+", "bytes": "+", "casts": "+", **TO_FLOAT32, **NOT_FLASH},
    "context_twice": {"kernels": 5, "bytes": "+", "flops": "+", "flops.b16": "+"},
}
TABLES = {"eager": EAGER, "compiled": COMPILED}
SAME_HASH = {
    "eager": {name for name, row in EAGER.items() if row == NOTHING},
    "compiled": {"wrapped", "refactored", "already_contiguous", "there_and_back"}
    | {"input_not_channels_last"},
}
"""Plants after which not even the order of kernels is another one."""


def moved(base, cost):
    """How far each of :data:`FIGURES` moved."""
    before, after = base.figures(), cost.figures()
    return {name: after[name] - before[name] for name in FIGURES if after[name] != before[name]}


def wrong(mode, name, base, cost):
    """What of ``cost`` is not as its row says, as sentences."""
    row, found = TABLES[mode][name], moved(base, cost)
    problems = []
    for figure in FIGURES:
        wanted, delta = row.get(figure, 0), found.get(figure, 0)
        fits = {"+": delta > 0, "-": delta < 0}.get(wanted, delta == wanted)
        if not fits:
            problems.append(f"{mode} {name}: {figure} moved by {delta}, expected {wanted}")
    same = base.fingerprint() == cost.fingerprint()
    if same != (name in SAME_HASH[mode]):
        problems.append(f"{mode} {name}: the fingerprint is {'the same' if same else 'another'}")
    return problems
