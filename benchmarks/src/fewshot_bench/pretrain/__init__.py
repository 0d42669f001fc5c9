"""How the weights of the three tiny backbones were made (`nox -s pretrain_tiny`).

Nothing here runs in a quickstart: the weights ship with `vision-backbones`, each with a card that
says how it was made and how it scores. The recipes are seeded, so a card's first losses can be
computed again, and a test does.
"""
