"""How lanes run: one step, one lane, a stack of lanes, and what is measured on the way."""
