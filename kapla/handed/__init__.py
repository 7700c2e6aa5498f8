"""Sockets that a service manager hands over: taken once, and claimed by listeners."""

from kapla.handed.claiming import Handed
from kapla.handed.taking import HandedSocket, HandoverError, place_of, take_sockets

__all__ = ["Handed", "HandedSocket", "HandoverError", "place_of", "take_sockets"]
