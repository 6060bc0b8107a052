"""Asks Claude through Sluice, with nothing but Python's standard library, and prints the text as it comes.

    python3 docs/examples/python/ask.py 'What is a sluice?' [URL of Sluice] [model]

The connection may be lost at any moment: the script comes back with the id of the last frame it has, and before the
first one under the same key, so that Claude is asked once.
"""

import http.client
import json
import sys
import time
import urllib.parse
import uuid


def connect(sluice, question, key, position):
    """Sends the question, or asks for what follows a position."""
    url = urllib.parse.urlsplit(sluice)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    # Sluice sends a heartbeat every 15 seconds: a connection that is silent for much longer is dead.
    connection = kind(url.netloc, timeout=45)
    if position is None:
        headers = {"content-type": "application/json", "idempotency-key": key}
        connection.request("POST", url.path + "/stream", json.dumps(question), headers)
    else:
        stream = position.split(".")[0]
        connection.request("GET", f"{url.path}/streams/{stream}", headers={"last-event-id": position})
    return connection.getresponse()


def events(response):
    """The id and the data of each event; of the format json, each has one line of data."""
    event_id = data = None
    for line in response:
        line = line.decode().rstrip("\n")
        if line.startswith("id: "):
            event_id = line[4:]
        elif line.startswith("data: "):
            data = line[6:]
        elif line == "" and data is not None:
            yield event_id, data
            event_id = data = None


def ask(question, sluice):
    """Yields the frames of one answer, each once."""
    key = str(uuid.uuid4())
    position = None
    losses = 0
    while True:
        try:
            response = connect(sluice, question, key, position)
            if response.status == 204:
                return
            if response.status != 200:
                raise SystemExit(json.load(response)["error"]["message"])
            for event_id, data in events(response):
                if data == "[DONE]":
                    return
                position = event_id
                losses = 0
                yield json.loads(data)
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            print(f"[{type(error).__name__}]", file=sys.stderr)
        losses += 1
        if losses > 10:
            raise SystemExit("The connection was lost.")
        time.sleep(0.1 * losses)


def main(prompt, sluice="http://127.0.0.1:8787", model=None):
    question = {"prompt": prompt, **({"model": model} if model else {})}
    for frame in ask(question, sluice):
        if frame["type"] == "text":
            print(frame["text"], end="", flush=True)
        elif frame["type"] == "error":
            raise SystemExit("\n" + frame["error"]["message"])
        elif frame["type"] == "done":
            print(f"\n[{frame['usage']['output_tokens']} tokens]", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
