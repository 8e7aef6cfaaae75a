"""What a transformation is: factories that remember, arguments, rules, states."""
