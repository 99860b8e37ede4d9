"""The command line: `gesher VERB`, one file a verb."""
