"""The verbs: thin shells over `residency.verbs`, whose modules load when they are called."""

from residency.cli import chain, models, provenance, serving
from residency.cli.root import main
from residency.cli.verb import Result

__all__ = ["Result", "chain", "main", "models", "provenance", "serving"]
