"""Writing an agent: its handlers, what their annotations say, and what they may ask of a delivery."""
