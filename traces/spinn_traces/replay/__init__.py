"""Plays whole systems on recorded networks: the request (`record`), the run, the figures (`table`) and the `report`."""
