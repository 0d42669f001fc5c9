"""The report as a small static site: files that a browser opens, no server and no network."""
