"""Ray Serve config files, generated from the code: `python -m serve_app.configs`."""
