"""`python -m camdrift` is the command line."""

from camdrift.cli.start import start

if __name__ == "__main__":
    start()
