"""aiohttp applications as socket-activated systemd instances."""
