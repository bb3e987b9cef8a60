"""What is trained: a pretrained convolutional trunk and a head of seven outputs on top."""
