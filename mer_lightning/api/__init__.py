"""The framework in Python: what `import mer_lightning as mer` offers, on top of the command line's own code.

A run made here is a run made there: the same folder, and the same digits from the same options and seed.
"""
