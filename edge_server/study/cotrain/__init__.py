"""What co-training over the network is worth: domain shift, policies, bytes, faults, a poisoner, cost."""
