"""The step of all matrices as one.

Read in this order: `step` (what happens), `plan` (what moves together), `pack` (one step of one
group), `window` (its slots) and `select` (who survives), `layout`, `weights` and `clock` (where
things are), `state` (in and out of the optimizer's state), `finite` (NaN), `dense` (plain Adam).
"""
