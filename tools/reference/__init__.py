"""LLaDA-V in NumPy: model, picture preprocessing and sampler, short enough to read in one sitting.

It is the yardstick of the C code: it is checked against the golden data of the published program
(`python -m tools.reference verify DIR`) and makes the small golden data in tests/data (`make_golden.py`).
Everything is float32 unless a name says otherwise; speed is not a goal.
"""
