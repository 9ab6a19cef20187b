"""A browser in a process of its own, as little of one as reads a stream: `stream_reader.py PORT LAST_EVENT_ID`.

Prints each event's `seq`, `lagged` or other kind on a line of its own, until the stream ends.
"""

import http.client
import json
import sys


def main(port: int, last_id: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/stream?streams=hive", headers={"Last-Event-ID": last_id} if last_id else {})
    response = connection.getresponse()
    for line in response:
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            print(event.get("seq", event["kind"]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
