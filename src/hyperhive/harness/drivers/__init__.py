"""Drivers: how one kind of agent CLI is started and spoken to."""
