"""Training one student: data, recipe, losses, teachers, the engine, the file."""
