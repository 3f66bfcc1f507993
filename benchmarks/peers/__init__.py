"""The same network in the libraries that mirl is measured against."""
