"""Networks to try things on: a link that is as slow and as far as you say."""
