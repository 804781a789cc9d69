"""Parts of make.py: each module writes one kind of fixture."""
