"""What every floor stands on: errors, findings, data types, knobs."""
