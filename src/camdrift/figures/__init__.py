"""Tables to figures. Functions return figures and never save them."""
