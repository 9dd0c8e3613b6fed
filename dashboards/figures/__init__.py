"""Charts: functions from a view to a picture, their tables, and the catalog of all."""
