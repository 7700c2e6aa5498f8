"""What every backend keeps, behind the same front."""
