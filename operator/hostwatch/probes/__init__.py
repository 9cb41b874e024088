"""What is read on a server, one file per subject: script text and parser.

Pure: text in, readings out. What does not belong here: connections, time, and what a
number means.
"""

from hostwatch.probes.document import parse
from hostwatch.probes.metrics import summarize

__all__ = ["parse", "summarize"]
