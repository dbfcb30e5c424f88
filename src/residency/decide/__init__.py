"""Should this be a small model at all: decision, money and memo."""
