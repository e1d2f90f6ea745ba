"""What a user sees: real processes, real signals, real pipes."""
