// How a turn ended, in a word and a sentence.
export const RESULTS: Readonly<Record<string, { word: string; means: string }>> = {
  ok: { word: "ok", means: "It ended well; its messages are acknowledged." },
  failed: { word: "failed", means: "It failed; its messages are delivered again." },
  prompt_too_long: { word: "too long", means: "Its prompt was too long, also after the session was compacted." },
  needs_login: { word: "needs login", means: "The agent is not logged in. Its messages wait." },
  limited: { word: "limited", means: "The account's limit or an outage of the API stopped it. It is tried again by itself." },
  stuck: { word: "stuck", means: "The CLI gave no sign of life and was ended." },
  cancelled: { word: "cancelled", means: "You cancelled it. Its messages are dead letters." },
  crashed: { word: "crashed", means: "The CLI ended without a result." },
};
