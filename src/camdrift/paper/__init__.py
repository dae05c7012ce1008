"""The 2022 paper in numbers: defects, readings, ladder, claims."""
