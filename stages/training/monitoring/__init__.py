"""What happens beside a training: its record, generations, guards and reporters."""
