"""Upper bounds: images inside the ball whose map breaks the property, confirmed by onnxruntime."""
