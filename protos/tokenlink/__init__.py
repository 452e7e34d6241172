"""Package path of the contract; mirrors the .proto path, so generated imports are right unpatched."""
