"""Whole systems on recorded networks: asked (`record`), done (`real_run`), found (`table`) and shown (`report`)."""
