"""The pages of this folder as a web site: `make site`."""

project = "prefline"
author = "the prefline authors"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "prefline"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
