"""The hive's tools over MCP: made from the protocol's table, served by the core.

`tools` the table · `schema` a tool's input schema · `render` replies as text for a model · `calls` one call, once ·
`session` one MCP session (the only file that imports the `mcp` package) · `server` who gets a session ·
`bridge` stdio to the socket for MCP clients in a box (standard library alone) · `remote` the same for a harness in a
process of its own. Identity and authority come from whoever opens a session; nothing here decides them.
"""
