"""The data sets that can be read: their settings in `config`, and a reader of each kind."""
