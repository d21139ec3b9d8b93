"""Any CNN -> cut points, exits, training, calibration, a bundle."""
