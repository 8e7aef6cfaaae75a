"""The core: factories that remember their arguments, rules, states."""
