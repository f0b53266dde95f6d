"""What at least three folders need and none of them owns."""
