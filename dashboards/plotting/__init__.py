"""How figures look: pictures, axes, colours, names."""
