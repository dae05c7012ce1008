"""Adversarial perturbations by any library."""
