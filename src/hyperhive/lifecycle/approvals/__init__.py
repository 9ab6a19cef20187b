"""Approvals: what waits for the operator's word, the word, and its entry in the audit table."""

from hyperhive.lifecycle.approvals.queue import ApprovalQueue, Shown
from hyperhive.lifecycle.approvals.schema import MIGRATIONS

__all__ = ["MIGRATIONS", "ApprovalQueue", "Shown"]
