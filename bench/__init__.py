"""What a message costs: the bridge, its peers and the floor side by side, in one run. `python -m bench`, see README.md."""
