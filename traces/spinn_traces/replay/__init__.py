"""Whole systems on recorded networks: what was asked (`record`), done (`real_run`), found (`table`), shown (`report`)."""
