"""Whole systems on recorded networks: asked (`record`), done (`real_run`), counted (`table`), shown (`report`)."""
