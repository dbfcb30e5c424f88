"""What the command line's verbs do; a module is imported when one of its verbs is called."""
