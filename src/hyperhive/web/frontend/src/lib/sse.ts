// Splits a text/event-stream into its events. Pure; knows nothing of what the events mean.

export interface SseEvent {
  id?: string;
  data: string;
}

/** Feed it text as it comes; it gives the events that are complete. */
export class SseParser {
  #rest = "";
  #data: string[] = [];
  #id: string | undefined;

  push(text: string): SseEvent[] {
    const events: SseEvent[] = [];
    this.#rest += text;
    let start = 0;
    for (;;) {
      const end = this.#rest.indexOf("\n", start);
      if (end < 0) break;
      const line = this.#rest.slice(start, this.#rest[end - 1] === "\r" ? end - 1 : end);
      start = end + 1;
      const event = this.#line(line);
      if (event) events.push(event);
    }
    this.#rest = this.#rest.slice(start);
    return events;
  }

  #line(line: string): SseEvent | undefined {
    if (line === "") {
      if (this.#data.length === 0) return undefined;
      const event: SseEvent = { data: this.#data.join("\n") };
      if (this.#id !== undefined) event.id = this.#id;
      this.#data = [];
      this.#id = undefined;
      return event;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#data.push(value);
    else if (field === "id") this.#id = value;
    return undefined; // comments, event and retry mean nothing here
  }
}
