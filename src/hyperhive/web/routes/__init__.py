"""The routes by what they are for. Each is a line or two: build the request, ask, answer."""
