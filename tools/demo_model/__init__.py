"""The demo model: a LLaDA-V of 4.7 M parameters that looks at synthetic scenes, from nothing to a checkpoint.

    python -m tools.demo_model build WORK_DIR models/demo

draws the scenes, trains the tokenizer, teaches the vision tower what is where (stage 1), trains the whole model by
masked diffusion (stage 2), writes the checkpoint and measures it. Every stage is skipped when its result is there
and goes on from its last save when it was interrupted; everything random comes from seeds.
Results and limits: models/demo/MODEL_CARD.md.
"""
