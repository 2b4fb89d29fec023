"""The operators of the graph, by kind: what a sample's stored numbers are computed to, in float and in codes."""
