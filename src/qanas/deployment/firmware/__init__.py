"""The firmware folder: a model as C sources that a microcontroller's project takes as they are."""
