"""The device bundle: what a device needs to speak to one model; read, verified, packed and unpacked."""
