"""What agents spend: rows, sums, prices, budgets. What a budget that is used up sets off is in `hyperhive.budgets`."""

from hyperhive.spending.limits import HIVE as HIVE
from hyperhive.spending.limits import Verdict as Verdict
from hyperhive.spending.rows import RootIn as RootIn
from hyperhive.spending.schema import MIGRATIONS as MIGRATIONS
from hyperhive.spending.spending import Spending as Spending
from hyperhive.spending.usage import Cause as Cause
from hyperhive.spending.usage import Root as Root
from hyperhive.spending.usage import Usage as Usage

__all__ = ["HIVE", "MIGRATIONS", "Cause", "Root", "RootIn", "Spending", "Usage", "Verdict"]
