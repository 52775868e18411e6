"""What a version was made from and what was made from it, over any number of stores."""
