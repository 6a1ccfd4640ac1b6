"""Changes as the app and the command line show them: plans in words, the queue, what was done."""
