"""A program that speaks as `claude auth login` and `claude auth status` do; `good#code` is the one code it takes."""

SCRIPTED_LOGIN = """
import json, os, pathlib, sys
done = pathlib.Path(os.environ["CLAUDE_CONFIG_DIR"]) / ".credentials.json"
if sys.argv[1:] == ["auth", "status"]:
    print(json.dumps({"loggedIn": done.exists(), "authMethod": "claude.ai" if done.exists() else "none"}))
    sys.exit(0 if done.exists() else 1)
assert sys.argv[1:] == ["auth", "login"], sys.argv
print("\\x1b[1mOpening browser\\x1b[0m\\n", end="", flush=True)
print("If the browser didn't open, visit: https://login.exam", end="", flush=True)
print("ple/authorize?code=true&state=x\\nPaste code here if prompted > ", end="", flush=True)
while True:
    line = sys.stdin.readline()
    if not line:
        sys.exit(1)
    if line == "good#code\\n":
        done.write_text("{}")
        print("Login successful.")
        sys.exit(0)
    print("That doesn't look like the full code.", file=sys.stderr, flush=True)
"""
