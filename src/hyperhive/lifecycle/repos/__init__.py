"""Agents' config repos: what the manager proposes, what is applied, and the only way from the one to the other."""

from hyperhive.lifecycle.repos.diffs import ChangedFile, Diff, show_hidden
from hyperhive.lifecycle.repos.reader import BoxedReader, PlainReader, RepoReader
from hyperhive.lifecycle.repos.repos import Proposed, Repos
from hyperhive.lifecycle.repos.trees import RepoLimits

__all__ = [
    "BoxedReader",
    "ChangedFile",
    "Diff",
    "PlainReader",
    "Proposed",
    "RepoLimits",
    "RepoReader",
    "Repos",
    "show_hidden",
]
