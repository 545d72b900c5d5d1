"""Anneal's trainer: one process per job, started as `python -m anneal_trainer <job.json>`. Knows nothing of Temporal or S3."""
