"""Read models. Those of `projections.registry` follow the log; `current_status` is written with the events."""
