"""Pages and reports over a study database: read-only, without torch."""
