"""Sends each request to the GPU with the most room: one that has the model loaded first, then the
one with the most headroom. What is not known comes last, and a fallback after all others."""

from wit_world import exports
from wit_world.exports.router import Decision, Decision_Rank, Ranked, Ranking, Target
from wit_world.imports.types import Description, Needs, Request


class Guest(exports.Guest):
    def describe(self) -> Description:
        # What the plugin wants to see of a request: nothing, the targets are enough.
        return Description("PLUGIN_NAME", "0.1.0", Needs(0))


class Router(exports.Router):
    def route(self, request: Request, targets: list[Target]) -> Decision:
        ranked = [Ranked(index, weight(target)) for index, target in enumerate(targets)]
        return Decision_Rank(Ranking(ranked, "headroom", [], []))


def weight(target: Target) -> float:
    """The bytes that are free, moved by more than any GPU has."""
    headroom = -1.0 if target.headroom is None else float(target.headroom)
    loaded = 1e15 if target.resident else 0.0
    fallback = -1e16 if target.fallback else 0.0
    return headroom + loaded + fallback
