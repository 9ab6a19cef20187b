"""The operator's pages over HTTP: one listener of the operator's own, apart from anything that agents reach."""
