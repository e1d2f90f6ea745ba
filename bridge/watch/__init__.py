"""Who looks on: reads the facts that the loops publish, and changes nothing."""
