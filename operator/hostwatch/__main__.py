"""``python -m hostwatch``: the same as the command ``hostwatch``."""

from hostwatch.cli.main import app

if __name__ == "__main__":
    app()
