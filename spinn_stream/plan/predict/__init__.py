"""What every plan would do under the present conditions."""
