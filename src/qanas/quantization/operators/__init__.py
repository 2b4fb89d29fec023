"""The operators of the graph, a file each: what a sample's stored numbers are computed to, in float and in codes."""
