/* Questions: those that wait for the operator, in the order in which they expire, and one of them on its own. */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { request } from "../../lib/api";
import { useActions } from "../../lib/keys";
import { useLoad } from "../../lib/load";
import type { Question } from "../../lib/protocol";
import { Link, navigate } from "../../lib/router";
import { facts, hive, questions, resolvedQuestions } from "../../lib/store";
import { Empty, ErrorBox, Loading, Page, Section } from "../../ui";
import { QuestionCard } from "./card";

export default function Screen({ params }: { params: Readonly<Record<string, string>> }): JSX.Element {
  const id = Number(params["id"]);
  return Number.isSafeInteger(id) && id > 0 ? <One key={id} id={id} /> : <List />;
}

function One({ id }: { id: number }): JSX.Element {
  const listed = questions.value.find((one) => one.id === id);
  const loaded = useLoad(async (signal) => (await request({ cmd: "questions", id }, { signal })).questions[0], [id]);
  const question = loaded.value ?? (listed?.cut ? undefined : listed);
  const next = questions.value.find((one) => one.id !== id);
  useActions([{ id: "questions.back", title: "Back to the questions", section: "Question", keys: "o", run: () => navigate("/questions") }]);
  const over = question !== undefined && (question.answered_at !== undefined || resolvedQuestions.value.has(id));
  return (
    <Page title={question?.tool ? "A tool call" : "A question"} lead={<><Link href="/questions">Questions</Link>{` / #${id}`}</>}>
      {loaded.error && !question ? <ErrorBox error={loaded.error} retry={loaded.reload} /> : null}
      {question ? <QuestionCard question={question} active focus /> : loaded.loading ? <Loading lines={5} /> : loaded.error ? null : (
        <Empty title={`There is no question ${id}`} icon="question" command="hyperhive questions">It was never asked here, or it was resolved more than 90 days ago.</Empty>
      )}
      {over && next ? <p><Link href={`/questions/${next.id}`}>The next question that waits →</Link></p> : null}
    </Page>
  );
}

function List(): JSX.Element {
  const open = byExpiry(questions.value.filter((one) => one.target === "operator"));
  const shown = useStaying(open);
  const [at, setAt] = useState(0);
  const current = Math.min(at, shown.length - 1);
  useActions(
    [
      { id: "questions.next", title: "Next question", section: "Questions", keys: "j", hidden: true, run: () => setAt(Math.min(current + 1, shown.length - 1)) },
      { id: "questions.previous", title: "Previous question", section: "Questions", keys: "k", hidden: true, run: () => setAt(Math.max(current - 1, 0)) },
      { id: "questions.open", title: "Open the question", section: "Questions", keys: "enter", hidden: true, run: () => shown[current] && navigate(`/questions/${shown[current].id}`) },
    ],
    [current, shown.length],
  );
  const more = (facts.value?.questions ?? 0) - open.length;
  return (
    <Page title="Questions" lead="What agents want to know of you. The first answer counts, from wherever it comes.">
      {hive.value === undefined ? (
        <Loading lines={6} />
      ) : shown.length === 0 ? (
        <Empty title="Nobody asks you anything" icon="question" command="hyperhive questions">Questions of agents, tool calls that need your word, and what the hive itself wants to know come here.</Empty>
      ) : (
        <Section title="Waiting for you" count={open.length}>
          <div class="question-list">
            {shown.map((one, index) => (
              <div key={one.id} onFocusCapture={() => setAt(index)}>
                <QuestionCard question={one} active={index === current} linked />
              </div>
            ))}
          </div>
          {more > 0 ? <p class="muted">{`${more} more come up as these are answered.`}</p> : null}
        </Section>
      )}
    </Page>
  );
}

/** One that is resolved while it is on the screen stays where it is, and says so: nothing moves under the pointer. */
function useStaying(open: readonly Question[]): readonly Question[] {
  const [known, setKnown] = useState<readonly Question[]>(open);
  const latest = useRef(open);
  latest.current = open;
  const ids = open.map((one) => one.id).join();
  useEffect(() => {
    setKnown((before) => {
      const fresh = latest.current.filter((one) => !before.some((other) => other.id === one.id));
      return fresh.length > 0 ? [...before, ...byExpiry(fresh)] : before;
    });
  }, [ids]);
  return known;
}

function byExpiry(all: readonly Question[]): readonly Question[] {
  return [...all].sort((one, other) => (one.expires_at ?? Infinity) - (other.expires_at ?? Infinity) || one.asked_at - other.asked_at);
}
