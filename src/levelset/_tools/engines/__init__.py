"""Where the pieces of a long job are done: in this process, in several, or on a Ray cluster.

The job is a function of a piece and a hook for progress. What it returns does not depend on where
it is done, in which order, or who died meanwhile.
"""

from levelset._tools.engines._choice import ENGINES, Engine, EngineName, Place, engine_of
from levelset._tools.engines._crew import Done, Listen, Work
from levelset._tools.engines._local import Local
from levelset._tools.engines._pieces import cut, expected_seconds, in_pieces, threads_of

__all__ = [
    "ENGINES",
    "Done",
    "Engine",
    "EngineName",
    "Listen",
    "Local",
    "Place",
    "Work",
    "cut",
    "engine_of",
    "expected_seconds",
    "in_pieces",
    "threads_of",
]
