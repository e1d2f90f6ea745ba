"""Small worlds for the delivery: real rules of a broker, a sink that does as it is told, and a clock that costs no time."""
