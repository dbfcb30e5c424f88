"""The verbs: thin shells over `residency.verbs`, whose modules load when they are called."""

from residency.cli import table
from residency.cli.root import main
from residency.cli.verb import Result

__all__ = ["Result", "main", "table"]
