"""Presence: where each species grows, told from records without absences.

"Which species is this tree?" and "does this species grow here?" are two
questions. The second has no answer from presences alone: it takes
*background*, sites where one knows only what the environment is. Two kinds
are used, random sites of the region, and the *target group*: sites where
anyone recorded any of the species, which share the habits of the observers.
Explained in chapter 04; scored by ``evaluation.presence``.
"""

from geotree.presence.models import DEFAULT, MODELS, Model, fit
from geotree.presence.sites import Data, visited

__all__ = ["DEFAULT", "MODELS", "Data", "Model", "fit", "visited"]
