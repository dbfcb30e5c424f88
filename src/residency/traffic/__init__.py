"""The record of what was asked and answered, and what in it is personal data."""
