"""What runs achieved: statistics, figures, and tables beside published ones."""
