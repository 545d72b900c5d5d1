"""A trainer without torch that speaks the whole seam and misbehaves on demand; stands in for the real package by the same name."""
