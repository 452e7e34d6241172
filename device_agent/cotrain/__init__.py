"""The device's half of co-training: its heads learn here, without torch, from gradients of the edge's."""
