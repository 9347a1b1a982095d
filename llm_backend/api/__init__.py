"""The HTTP front end: the OpenAI contract over the engine. Imports no torch."""
