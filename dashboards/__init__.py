"""What a student is: pure data and exact arithmetic. Only `space.build` imports torch."""
