"""From torch to a device bundle: ONNX graphs, checked against torch, in float32 and int8."""
