"""The protocol: everything anyone can ask, be answered or be told.

`types` values · `requests` `replies` `events` the unions · `answers` which reply belongs to which request ·
`harness_line` what the core asks a harness, `line` how it reaches one · `policy` who may ask what · `codec` bytes and
lines · `live` the per-agent stream's encoding · `dispatch` request to handler.
Nothing in this package does I/O.
"""
