"""What a judge is worth: agreement with people, calibration, floors."""
