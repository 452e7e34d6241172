"""Media files to arrays: types of clips, decoding within limits, screens of what strangers send."""
