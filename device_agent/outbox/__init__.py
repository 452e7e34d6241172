"""Store and forward: questions that wait for the network, kept in a file until their answers are safe."""
