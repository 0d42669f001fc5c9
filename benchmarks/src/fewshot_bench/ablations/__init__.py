"""The ablations of SNELL: variants that differ in one choice, compared on the same draws."""
