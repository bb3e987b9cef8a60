"""The model: a pretrained convolutional trunk, and on top of it a head with one output per class."""
