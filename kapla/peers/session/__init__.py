"""The requests for one content: whom to ask for what, and when. No I/O; the clock is handed in."""

from kapla.peers.session.actions import Action, Distrust, Find, Get, NobodyHas
from kapla.peers.session.session import Session
from kapla.peers.session.standing import Standing

__all__ = ["Action", "Distrust", "Find", "Get", "NobodyHas", "Session", "Standing"]
