"""Writes the reference of modules and functions, from their docstrings.

python docs/api.py FOLDER
"""

import importlib
import sys
from pathlib import Path

import pdoc

PACKAGES = (
    "keras_resnet",
    "keras_resnet.analysis",
    "keras_resnet.experiments",
    "keras_resnet.serving",
    "keras_resnet.tracking",
    "keras_resnet.training",
    "keras_resnet.weights",
    "tuning",
)

for package in map(importlib.import_module, PACKAGES):
    for name in package.__all__:
        # pdoc reads what is there, and these names come when they are asked for.
        setattr(package, name, getattr(package, name))
pdoc.pdoc("keras_resnet", "tuning", output_directory=Path(sys.argv[1]))
