"""What is run beside the packages: demo, images, load tests, a server of one's own."""
