"""A look at a folder of images before anything is trained: what is there, how it is read, what is passed over."""
