"""Acts: containers, images and networks from kernel calls. Never imports provider."""
