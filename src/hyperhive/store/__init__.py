"""SQLite for one process: opening, migrations, the one writer with group commit, and readers.

`Store` is the door. What is stored, and what it means, is the business of the parts that hand in operations.
"""

from sqlite_utils import Migrations as Migrations
from sqlite_utils.db import Database as Database

from hyperhive.store.jobs import Deferred as Deferred
from hyperhive.store.jobs import Operation as Operation
from hyperhive.store.store import Store as Store
from hyperhive.store.writer import StoreStatistics as StoreStatistics

__all__ = ["Database", "Deferred", "Migrations", "Operation", "Store", "StoreStatistics"]
