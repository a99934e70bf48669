"""How the shipped models and rows were made: `python -m bench.pretraining WHAT --output DIR`.

WHAT is one of

* `language`: a tiny Llama, from docstrings of installed packages (`suites/models/tiny-lm`);
* `vision`: a tiny ViT, from digit strokes drawn by a program (`suites/models/tiny-vit`);
* `rows`: multiple-choice rows from Python's documentation (`suites/data/topic_continuation`).

Each is a module of that name; `corpus` is the text the language model reads, and `loop` trains
both models.

The language corpus is read from source files with `ast`, so nothing is imported and the same
versions (`constraints/tested.txt`) give the same text, whose sha256 is printed and written to
`training.json`. `corpus.SOURCES` names the packages and the licence of each; what they carry of
others (`externals`, `_vendor`, ...) is left out. The tuning tasks use Python's documentation, so
nothing of Python itself may be in the corpus: only the files of `SOURCES` are read, and a
docstring that shares 13 words in a row with the standard library or with `pydoc_data.topics` is
dropped.

On two cores `language --compile` takes about ten minutes and `vision` two. The last digits of the
weights depend on the machine, the number of threads and the versions; corpus and rows do not.
"""
