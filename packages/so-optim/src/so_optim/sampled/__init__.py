"""Weight gradients that exist at the support alone.

Read in this order: `sddmm` (the product), `rebuild` and `producers` (why nothing has to be kept),
`linear` and its siblings `embedding`, `patches`, `gathered`, then `mlp` and `attention` (which keep
even less), `layers` and `swap` (how a module takes part), `blocks` (levels of memory), `sampling`
(the whole model).
"""
