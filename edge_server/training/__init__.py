"""Training of both halves of the link: recipes, stages, and the loop that runs them.

    encoders ─┐
              ├─▶ alignment (stage 1) ─▶ fine-tune (stage 2) ─▶ model folder ─▶ device bundle
    foundation┘

A *recipe* (:mod:`.recipes`) is a function that returns every number of a run. A *stage* owns its trainable
parameters and its loss; the *loop* (:mod:`.loop`) owns optimiser, schedule, checkpoints, log and progress.
"""
