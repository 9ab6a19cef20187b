"""Which reply each request is answered with, when it is not answered with an error.

The operator's dialect leaves a reply's `kind` out, so a client reads it by this table; the documentation and the
tests use it too. Handlers are held to it by a test.
"""

from typing import Final

from hyperhive.protocol import replies as a
from hyperhive.protocol import requests as r

ANSWERS: Final[dict[type[r.Request], type[a.Reply]]] = {
    # mail
    r.Send: a.Ok,
    r.Recv: a.Messages,
    r.Status: a.HiveStatus,  # the operator's; anyone else gets `Unread`
    r.Recent: a.RecentRows,
    r.AckTurn: a.Ok,
    r.RequeueInflight: a.Ok,
    r.OperatorMsg: a.Ok,
    r.Inbox: a.InboxRows,
    r.Ack: a.Ok,
    r.Dead: a.DeadLetters,
    r.Requeue: a.Ok,
    r.Drop: a.Ok,
    r.StateFileCheck: a.StateFile,
    r.StateFileRead: a.StateFile,
    r.Search: a.SearchHits,
    r.Flow: a.FlowPage,
    r.Message: a.OneMessage,
    # questions, reminders, loose ends
    r.Ask: a.QuestionQueued,
    r.Answer: a.Ok,
    r.Questions: a.QuestionRows,
    r.CancelQuestion: a.Ok,
    r.GetLooseEnds: a.LooseEnds,
    r.CancelLooseEnd: a.Ok,
    r.Remind: a.ReminderQueued,
    r.Reminders: a.ReminderRows,
    r.CountPendingReminders: a.RemindersPending,
    # who and how
    r.Whoami: a.Identity,
    r.Hello: a.Ok,
    r.ModelAccess: a.ModelStanding,
    r.AskTool: a.ToolVerdict,
    r.WithdrawTools: a.Ok,
    r.MayTurn: a.Admission,
    r.Charge: a.Charged,
    r.Attach: a.Ok,
    r.Subscribe: a.Ok,  # never sent: the frames follow at once
    # lifecycle
    r.Spawn: a.Ok,
    r.RequestSpawn: a.Ok,
    r.Start: a.Ok,
    r.Kill: a.Ok,
    r.Restart: a.Ok,
    r.Rebuild: a.Ok,
    r.Update: a.Ok,
    r.UpdateAll: a.Ok,
    r.Destroy: a.Ok,
    r.Restore: a.Ok,
    r.List: a.Agents,
    r.RequestApplyCommit: a.Ok,
    r.Pending: a.Approvals,
    r.Show: a.ApprovalDiff,
    r.Approve: a.Ok,
    r.Deny: a.Ok,
    r.Rollback: a.Ok,
    r.AgentConfig: a.AgentConfigPage,
    r.MetaUpdate: a.Ok,
    # one agent's turns
    r.Logs: a.LogLines,
    r.Events: a.EventPage,
    r.History: a.HivePast,
    r.AgentState: a.AgentPage,
    r.AgentLooseEnds: a.LooseEnds,
    r.Turns: a.TurnRows,
    r.Stats: a.StatsPage,
    r.Audit: a.AuditRows,
    r.Cancel: a.Ok,
    r.Compact: a.Ok,
    r.Model: a.Ok,
    r.NewSession: a.Ok,
    r.LoginStart: a.Login,
    r.LoginCode: a.Login,
    r.LoginCancel: a.Ok,
    # the hive's own settings
    r.Account: a.Accounts,
    r.Budget: a.BudgetPage,
    r.ToolRules: a.ToolRuleRows,
    r.Notices: a.NoticeRows,
    r.State: a.HiveSnapshot,
    r.Origin: a.OriginPage,
    r.Digest: a.DigestPage,
    r.LoginLink: a.LoginUrl,
    r.WebSessions: a.WebSessionRows,
    r.EndWebSession: a.Ok,
    r.Reload: a.Ok,
}
