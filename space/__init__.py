"""What a student is: pure data and exact arithmetic. `space.build`, `space.modules`: torch."""
