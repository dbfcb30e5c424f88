"""Is it still good: percentiles, metrics, alerts and drift of the endpoint."""
