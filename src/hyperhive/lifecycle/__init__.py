"""Agents' lives: when each runs, and what each lives in."""
