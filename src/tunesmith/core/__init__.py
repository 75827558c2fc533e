"""The floor of the house: no idea of fine-tuning lives here, only what every idea stands on."""
