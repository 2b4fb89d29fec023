"""The machinery of search spaces: settings, conditions, groups. No network in it."""
